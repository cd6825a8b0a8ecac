/** @file
  Finds records in the configuration blob.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_BLOB_LIB_H_
#define BYGONE_BLOB_LIB_H_

#include <BygoneBlob.h>

/**
  The next record of a type, or of any type.

  @param Type      record type; MAX_UINT32 for any
  @param Previous  NULL to start at the first record
  @return the record, or NULL after the last
**/
CONST BLOB_HEADER *
EFIAPI
BlobNext (
  IN UINT32             Type,
  IN CONST BLOB_HEADER  *Previous OPTIONAL
  );

/**
  The payload of the first record of a type.

  @param Type   record type
  @param Bytes  the payload's length, padding included; untouched if there is no such record
  @return the payload, or NULL
**/
CONST VOID *
EFIAPI
BlobFind (
  IN  UINT32  Type,
  OUT UINTN   *Bytes OPTIONAL
  );

/** The Flags record's value, 0 without one. **/
UINT64
EFIAPI
BlobFlagsValue (
  VOID
  );

/** A string record's text, or Default if it is missing, empty, or not terminated. **/
CONST CHAR8 *
EFIAPI
BlobString (
  IN UINT32       Type,
  IN CONST CHAR8  *Default
  );

#endif

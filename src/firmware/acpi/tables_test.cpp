#include "firmware/acpi/tables.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "spec/acpi/tables.h"

namespace bygone::firmware {
namespace {

AcpiMachine example() {
  AcpiMachine machine;
  machine.processor_count = 3;
  machine.ram = {{0, 0xF8000000}, {0x100000000, 0x10000000}};
  machine.low_mmio = {0xF8000000, 0x6C00000};
  machine.high_mmio = {0x200000000, 0x20000000};
  machine.has_com1 = machine.com1_is_console = true;
  machine.generation_id_address = 0x10000;
  return machine;
}

unsigned sum(const AcpiTable& table) {
  unsigned total = 0;
  for (const std::uint8_t byte : table) total += byte;
  return total & 0xFF;
}

TEST(AcpiTables, checksums_and_lengths_hold) {
  const AcpiTables tables = build_acpi_tables(example());
  for (const AcpiTable* table : {&tables.madt, &tables.srat, &tables.fadt, &tables.dsdt, &tables.waet, &tables.spcr}) {
    EXPECT_EQ(sum(*table), 0U);
    spec::acpi::Header header;
    std::memcpy(&header, table->data(), sizeof header);
    EXPECT_EQ(header.length, table->size());
  }
}

TEST(AcpiTables, legacy_and_extended_power_fields_agree) {
  const AcpiTables tables = build_acpi_tables(example());
  spec::acpi::Fadt fadt;
  std::memcpy(&fadt, tables.fadt.data(), sizeof fadt);
  EXPECT_EQ(fadt.pm1a_event_block, fadt.x_pm1a_event_block.address);
  EXPECT_EQ(fadt.pm_timer_block, 0x408U);
  EXPECT_EQ(fadt.pm_timer_block, fadt.x_pm_timer_block.address);
  EXPECT_EQ(fadt.gpe0_block, fadt.x_gpe0_block.address);
  EXPECT_EQ(fadt.flags, 0x8535U);
}

TEST(AcpiTables, placed_tables_are_linked) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x100000));
  ASSERT_TRUE(place_acpi_tables(memory, {0xE0000, 0x20000}, build_acpi_tables(example())));
  const auto rsdp = memory.read_object<spec::acpi::Rsdp>({0xE0000}).value();
  EXPECT_EQ(std::memcmp(rsdp.signature, "RSD PTR ", 8), 0);
  const auto xsdt = memory.read_object<spec::acpi::Header>({rsdp.xsdt_address}).value();
  EXPECT_EQ(std::memcmp(xsdt.signature, "XSDT", 4), 0);
  EXPECT_EQ((xsdt.length - sizeof xsdt) / 8, 5U);
  const auto fadt_at = memory.read_object<le64>({rsdp.xsdt_address + sizeof xsdt}).value();
  const auto fadt = memory.read_object<spec::acpi::Fadt>({fadt_at}).value();
  EXPECT_EQ(std::memcmp(memory.read_object<spec::acpi::Header>({fadt.x_dsdt}).value().signature, "DSDT", 4), 0);
  EXPECT_EQ(std::memcmp(memory.read_object<spec::acpi::Facs>({fadt.firmware_control}).value().signature, "FACS", 4), 0);
}

TEST(AcpiTables, too_small_a_place_is_refused) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x100000));
  EXPECT_EQ(place_acpi_tables(memory, {0xE0000, 0x200}, build_acpi_tables(example())).error().code, ErrorCode::kExhausted);
}

// The reference compiler must read every table back without a complaint.
TEST(AcpiTables, iasl_reads_every_table) {
  const AcpiTables tables = build_acpi_tables(example());
  char pattern[] = "/tmp/bygone-acpi-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(pattern);
  const std::pair<const char*, const AcpiTable*> all[] = {{"dsdt", &tables.dsdt}, {"facp", &tables.fadt}, {"apic", &tables.madt},
                                                          {"srat", &tables.srat}, {"waet", &tables.waet}, {"spcr", &tables.spcr}};
  for (const auto& [name, table] : all) {
    const auto path = folder / (std::string(name) + ".dat");
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(table->data()), static_cast<std::streamsize>(table->size()));
    const std::string log = path.string() + ".log";
    EXPECT_EQ(std::system(("iasl -d " + path.string() + " > " + log + " 2>&1").c_str()), 0) << name;
    std::ifstream in(log);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    for (const char* complaint : {"Error", "Warning", "Invalid", "Unknown"}) EXPECT_EQ(text.find(complaint), std::string::npos) << text;
  }
  const std::string compile = "iasl -ve " + (folder / "dsdt.dsl").string() + " > " + (folder / "compile.log").string() + " 2>&1";
  EXPECT_EQ(std::system(compile.c_str()), 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace bygone::firmware

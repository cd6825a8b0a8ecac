#include "cpu/translator/jit/code_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace bygone::cpu::translator::jit {

Result<std::unique_ptr<CodeMemory>> CodeMemory::create(std::size_t bytes) {
  auto memory = std::unique_ptr<CodeMemory>(new CodeMemory);
  memory->size_ = bytes;
  memory->file_ = UniqueFd(::memfd_create("bygone-code", MFD_CLOEXEC));
  if (memory->file_.get() < 0 || ::ftruncate(memory->file_.get(), static_cast<off_t>(bytes)) != 0) {
    return fail(ErrorCode::kExhausted, "cannot create a file for translated code: {}", std::strerror(errno));
  }
  void* writable = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->file_.get(), 0);
  if (writable == MAP_FAILED) return fail(ErrorCode::kExhausted, "cannot map translated code: {}", std::strerror(errno));
  memory->writable_ = static_cast<std::uint8_t*>(writable);
  void* executable = ::mmap(nullptr, bytes, PROT_READ | PROT_EXEC, MAP_SHARED, memory->file_.get(), 0);
  if (executable == MAP_FAILED) {
    return fail(ErrorCode::kExhausted, "cannot map translated code as executable (does a security policy forbid it?): {}",
                std::strerror(errno));
  }
  memory->executable_ = static_cast<std::uint8_t*>(executable);
  return memory;
}

CodeMemory::~CodeMemory() {
  if (writable_ != nullptr) ::munmap(writable_, size_);
  if (executable_ != nullptr) ::munmap(executable_, size_);
}

namespace {
constexpr std::size_t kLargePage = 2U << 20;
}

Result<std::unique_ptr<LowMemory>> LowMemory::create(std::size_t bytes) {
  const std::size_t reserved = bytes + kLargePage;
  void* place = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) {
    return fail(ErrorCode::kExhausted, "no memory below 2 GiB for the translator's tables: {}", std::strerror(errno));
  }
  auto memory = std::unique_ptr<LowMemory>(new LowMemory);
  memory->mapping_ = static_cast<std::uint8_t*>(place);
  memory->mapping_size_ = reserved;
  memory->data_ = memory->mapping_ + (kLargePage - reinterpret_cast<std::uint64_t>(place) % kLargePage) % kLargePage;
  return memory;
}

LowMemory::~LowMemory() { ::munmap(mapping_, mapping_size_); }

}  // namespace bygone::cpu::translator::jit

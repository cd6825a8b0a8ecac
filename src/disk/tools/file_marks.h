// What a file's owner sees of it beside its content: who may use it, and its date, which VHD children know their parent by. Tools
// that rewrite a file and leave what it reads as alone give these back. Threading: a value.
#pragma once

#include <sys/stat.h>

#include <string>

#include "support/result.h"

namespace bygone::disk {

class FileMarks {
 public:
  [[nodiscard]] static Result<FileMarks> of(const std::string& path);
  [[nodiscard]] Result<void> give_to(const std::string& path) const;
  [[nodiscard]] Result<void> give_date_to(const std::string& path) const;

 private:
  struct stat status_ = {};
};

}  // namespace bygone::disk

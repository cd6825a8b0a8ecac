// The Virtual Machines folders: where machines are, and what is done with them as files.
//
//   PLACE/NAME/NAME.json   the definition       PLACE/NAME/NAME.log   what its last run said
//   PLACE/NAME/…           disks, UEFI variables (NAME.vars), saved state (NAME.state)
//
// A place is ~/Virtual Machines, and any other folder that a machine was made in; the list is kept in ~/.config/bygone/config.json.
// Threading: plain functions on files; two processes may use one library, each file changes whole.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "library/definition.h"
#include "support/result.h"

namespace bygone::library {

/// What folders of machines that are being made or removed are called, before the machine's name.
inline constexpr std::string_view kUnfinished = ".new-", kGone = ".gone-";

/// Where one machine's files are.
struct MachineFolder {
  std::filesystem::path folder;
  std::string name;

  [[nodiscard]] std::filesystem::path file(std::string_view extension) const { return folder / (name + std::string(extension)); }
  [[nodiscard]] std::filesystem::path definition() const { return file(".json"); }
  [[nodiscard]] std::filesystem::path log() const { return file(".log"); }
  [[nodiscard]] std::filesystem::path variables() const { return file(".vars"); }
  [[nodiscard]] std::filesystem::path saved_state() const { return file(".state"); }
  /// A path of the definition, made absolute.
  [[nodiscard]] std::filesystem::path resolve(const std::string& path) const { return folder / path; }
};

class Library {
 public:
  /// The person's, by HOME, XDG_CONFIG_HOME and BYGONE_MACHINES (which, when set, is the only place). Errors: kCorrupt configuration.
  [[nodiscard]] static Result<Library> of_user();
  Library(std::filesystem::path configuration, std::vector<std::filesystem::path> places)
      : configuration_(std::move(configuration)), places_(std::move(places)) {}

  /// Where machines are made when nothing else is said.
  [[nodiscard]] const std::filesystem::path& default_place() const { return places_.front(); }
  [[nodiscard]] const std::vector<std::filesystem::path>& places() const { return places_; }
  /// Adds a place and remembers it.
  [[nodiscard]] Result<void> add_place(const std::filesystem::path& place);

  /// All machines, by name; of equal names the first place's.
  [[nodiscard]] std::vector<MachineFolder> list() const;
  /// `name` is a machine's name, or the path of its folder or definition (recognised by a slash). Errors: kNotFound.
  [[nodiscard]] Result<MachineFolder> find(const std::string& name) const;

 private:
  std::filesystem::path configuration_;
  std::vector<std::filesystem::path> places_;
};

[[nodiscard]] Result<ReadDefinition> load(const MachineFolder& machine);
/// "XP.json, line 7: network.0.connection", for an error about a value that only its user understands. Without the line when the file is gone.
[[nodiscard]] std::string place_in_definition(const MachineFolder& machine, const std::vector<std::string>& path);
/// Checks the document, then replaces the definition atomically.
[[nodiscard]] Result<void> store(const MachineFolder& machine, const Document& document);
/// Makes a machine's folder with its definition, all or nothing: `prepare` fills the new folder (disks) before it gets its name.
/// Errors: kAlreadyExists and what `prepare` says.
[[nodiscard]] Result<MachineFolder> create(const std::filesystem::path& place, const Document& document,
                                           const std::function<Result<void>(const std::filesystem::path& folder)>& prepare = {});

}  // namespace bygone::library

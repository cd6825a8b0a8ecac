// The person whose session the agent serves, and starting programs as that person.
// Threading: one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "desktop_entries.h"
#include "support/result.h"

namespace bygone::agent {

struct SessionUser {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string home;
  std::string shell;

  /// $XDG_DATA_HOME's default, then the system's.
  [[nodiscard]] DataDirectories data_directories() const;
};

/// The line of a user in the text of /etc/passwd. (Not getpwnam: a static program has no name service.)
[[nodiscard]] Result<SessionUser> find_user(std::string_view passwd, std::string_view name);

/// The user with a user identifier in the text of /etc/passwd; a nameless one at "/" when it is not there.
[[nodiscard]] SessionUser user_of(std::string_view passwd, uid_t uid);

/// Starts a command as a session user, in its home or in `folder`, with `display` in its environment, in a session of its
/// own. Returns the process. Errors when it cannot be executed, not when it ends with a failure.
[[nodiscard]] Result<pid_t> start_as(const SessionUser& user, const std::string& display, const std::string& folder,
                                     const std::vector<std::string>& command);

/// Asks all processes of a user to end, except this one. Needs the user's or root's right.
void end_processes_of(const SessionUser& user);

}  // namespace bygone::agent

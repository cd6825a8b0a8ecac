// The windows of a session as its X server and window manager tell of them.
// Specification: Extended Window Manager Hints 1.5 (_NET_CLIENT_LIST…), ICCCM 2.0 (WM_CLASS, WM_NAME).
// Threading: one thread.
#pragma once

#include <xcb/xcb.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "spec/agent/protocol.h"
#include "support/result.h"

namespace bygone::agent {

class WindowList {
 public:
  /// Connects to an X server, such as ":0". Errors: kNotFound when there is none.
  [[nodiscard]] static Result<std::unique_ptr<WindowList>> connect(const std::string& display);

  /// Readable when drain() has something to do.
  [[nodiscard]] int fd() const { return xcb_get_file_descriptor(connection_.get()); }

  /// Takes what the server has sent. True when the windows may be others than before; an error when the server is gone.
  [[nodiscard]] Result<bool> drain();

  /// The windows of programs, from bottom to top.
  [[nodiscard]] Result<std::vector<spec::agent::Window>> list();

 private:
  struct Disconnect {
    void operator()(xcb_connection_t* connection) const { xcb_disconnect(connection); }
  };
  enum AtomIndex : std::size_t {
    kClientList, kClientListStacking, kActiveWindow, kWindowName, kWindowProcess, kWindowState, kStateHidden, kUtf8, kAtomCount
  };
  explicit WindowList(xcb_connection_t* connection) : connection_(connection) {}
  [[nodiscard]] Result<void> start();
  [[nodiscard]] std::vector<xcb_window_t> window_ids();
  [[nodiscard]] std::vector<xcb_window_t> windows_of(xcb_get_property_reply_t* reply) const;

  std::unique_ptr<xcb_connection_t, Disconnect> connection_;
  xcb_window_t root_ = 0;
  std::array<xcb_atom_t, kAtomCount> atoms_{};
  std::set<xcb_window_t> watched_;
};

}  // namespace bygone::agent

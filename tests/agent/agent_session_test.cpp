// The integration agent as a guest runs it, with a real X server (Xvfb) and the host's own client. The window manager is
// this test: it keeps the list of windows that one would keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xcb/xcb.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "seamless/agent_client.h"

namespace bygone {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// A program that runs while a test does.
class Process {
 public:
  explicit Process(std::vector<std::string> command, int inherited = -1) {
    child_ = fork();
    if (child_ != 0) return;
    std::vector<char*> words;
    words.reserve(command.size() + 1);
    for (std::string& word : command) words.push_back(word.data());
    words.push_back(nullptr);
    for (int fd = 3; fd < 64; ++fd) {
      if (fd != inherited) close(fd);
    }
    execvp(words[0], words.data());
    _exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    kill(child_, SIGTERM);
    waitpid(child_, nullptr, 0);
  }

 private:
  pid_t child_ = -1;
};

class AgentSession : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "bygone-session-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    start_display();
    agent_ = std::make_unique<Process>(std::vector<std::string>{
        BYGONE_AGENT, "--socket", folder_ / "agent", "--display", display_, "--log-off", "touch " + (folder_ / "logged-off").string(),
        "--power-off", "touch " + (folder_ / "off").string(), "--restart", "touch " + (folder_ / "restarted").string()});
    ASSERT_TRUE(eventually([&] {
      auto client = seamless::AgentClient::connect(folder_ / "agent", 10s);
      if (client) client_ = std::move(*client);
      return client.has_value();
    }));
  }
  void TearDown() override {
    client_.reset();
    agent_.reset();
    if (connection_ != nullptr) xcb_disconnect(connection_);
    x_server_.reset();
    fs::remove_all(folder_);
  }

  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      usleep(10'000);
    }
    return false;
  }

  /// Xvfb chooses a free display itself, but two that start in the same moment may choose the same: tries again then.
  void start_display() {
    for (int attempt = 0; attempt < 5 && connection_ == nullptr; ++attempt) try_to_start_display();
    ASSERT_NE(connection_, nullptr) << "Xvfb did not start (Debian package xvfb)";
    root_ = xcb_setup_roots_iterator(xcb_get_setup(connection_)).data->root;
  }
  void try_to_start_display() {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    x_server_ = std::make_unique<Process>(
        std::vector<std::string>{"Xvfb", "-displayfd", std::to_string(ends[1]), "-screen", "0", "800x600x24", "-nolisten", "tcp"}, ends[1]);
    close(ends[1]);
    std::array<char, 16> text{};
    std::string number;
    ssize_t got = 0;
    while (!number.ends_with('\n') && (got = read(ends[0], text.data(), text.size())) > 0) {
      number.append(text.data(), static_cast<std::size_t>(got));
    }
    close(ends[0]);
    if (!number.ends_with('\n')) return;
    display_ = ":" + number.substr(0, number.size() - 1);
    connection_ = xcb_connect(display_.c_str(), nullptr);
    if (xcb_connection_has_error(connection_) == 0) return;
    xcb_disconnect(connection_);
    connection_ = nullptr;
  }

  xcb_atom_t atom(const std::string& name) {
    auto* reply = xcb_intern_atom_reply(
        connection_, xcb_intern_atom(connection_, 0, static_cast<std::uint16_t>(name.size()), name.data()), nullptr);
    const xcb_atom_t result = reply->atom;
    std::free(reply);
    return result;
  }
  void set_text(xcb_window_t window, xcb_atom_t property, const std::string& text) {
    xcb_change_property(connection_, XCB_PROP_MODE_REPLACE, window, property, XCB_ATOM_STRING, 8,
                        static_cast<std::uint32_t>(text.size()), text.data());
  }
  void set_windows(const std::vector<xcb_window_t>& windows) {
    xcb_change_property(connection_, XCB_PROP_MODE_REPLACE, root_, atom("_NET_CLIENT_LIST"), XCB_ATOM_WINDOW, 32,
                        static_cast<std::uint32_t>(windows.size()), windows.data());
    xcb_flush(connection_);
  }
  xcb_window_t open_window(const std::string& title) {
    const xcb_window_t window = xcb_generate_id(connection_);
    xcb_create_window(connection_, XCB_COPY_FROM_PARENT, window, root_, 30, 40, 200, 100, 0, XCB_WINDOW_CLASS_INPUT_OUTPUT,
                      XCB_COPY_FROM_PARENT, 0, nullptr);
    set_text(window, XCB_ATOM_WM_NAME, title);
    set_text(window, XCB_ATOM_WM_CLASS, std::string("inst\0Class\0", 11));
    const auto process = static_cast<std::uint32_t>(getpid());
    xcb_change_property(connection_, XCB_PROP_MODE_REPLACE, window, atom("_NET_WM_PID"), XCB_ATOM_CARDINAL, 32, 1, &process);
    xcb_map_window(connection_, window);
    return window;
  }
  template <typename ExpectedEvent>
  std::optional<ExpectedEvent> next() {
    for (int i = 0; i < 100; ++i) {
      const auto event = client_->next_event(20s);
      if (!event || !*event) return std::nullopt;
      if (const auto* found = std::get_if<ExpectedEvent>(&**event)) return *found;
    }
    return std::nullopt;
  }

  fs::path folder_;
  std::string display_;
  std::unique_ptr<Process> x_server_;
  std::unique_ptr<Process> agent_;
  xcb_connection_t* connection_ = nullptr;
  xcb_window_t root_ = 0;
  std::unique_ptr<seamless::AgentClient> client_;
};

TEST_F(AgentSession, hello_tells_of_the_display) { EXPECT_TRUE(client_->agent().has_display); }

TEST_F(AgentSession, windows_are_listed_as_the_display_has_them) {
  const xcb_window_t window = open_window("A title");
  set_windows({window});
  ASSERT_TRUE(eventually([&] { return !client_->list_windows()->empty(); }));
  const auto windows = client_->list_windows();
  ASSERT_EQ(windows->size(), 1U);
  EXPECT_EQ(windows->front().id, window);
  EXPECT_EQ(windows->front().title, "A title");
  EXPECT_EQ(windows->front().instance_name, "inst");
  EXPECT_EQ(windows->front().class_name, "Class");
  EXPECT_EQ(windows->front().process, static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(windows->front().x, 30);
  EXPECT_EQ(windows->front().height, 100U);
}

TEST_F(AgentSession, watcher_sees_a_window_come_change_and_go) {
  ASSERT_TRUE(client_->watch());
  const xcb_window_t window = open_window("First");
  set_windows({window});
  const auto opened = next<spec::agent::WindowOpenedEvent>();
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->window.title, "First");

  set_text(window, XCB_ATOM_WM_NAME, "Second");
  xcb_flush(connection_);
  const auto changed = next<spec::agent::WindowChangedEvent>();
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->window.title, "Second");

  xcb_destroy_window(connection_, window);
  set_windows({});
  const auto closed = next<spec::agent::WindowClosedEvent>();
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->window, window);
}

TEST_F(AgentSession, watching_begins_with_the_windows_that_are_there) {
  set_windows({open_window("Already there")});
  ASSERT_TRUE(eventually([&] { return client_->list_windows()->size() == 1; }));
  ASSERT_TRUE(client_->watch());
  const auto opened = next<spec::agent::WindowOpenedEvent>();
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->window.title, "Already there");
}

TEST_F(AgentSession, programs_run_with_the_display_and_their_end_is_told) {
  ASSERT_TRUE(client_->watch());
  const auto process = client_->start_command({"sh", "-c", "[ \"$DISPLAY\" = " + display_ + " ] && exit 5"});
  ASSERT_TRUE(process) << process.error().text();
  const auto ended = next<spec::agent::ProgramEndedEvent>();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->process, *process);
  EXPECT_EQ(ended->status, 5);
}

TEST_F(AgentSession, unknown_programs_are_named) {
  const auto command = client_->start_command({"/no/such/program"});
  ASSERT_FALSE(command);
  EXPECT_THAT(command.error().message, testing::HasSubstr("/no/such/program"));
  const auto program = client_->start_program("no-such.desktop", {});
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().code, ErrorCode::kNotFound);
}

TEST_F(AgentSession, the_screen_takes_any_size_that_there_is_room_for) {
  const auto size = [this] {
    auto* geometry = xcb_get_geometry_reply(connection_, xcb_get_geometry(connection_, root_), nullptr);
    const std::pair<unsigned, unsigned> result(geometry->width, geometry->height);
    std::free(geometry);
    return result;
  };
  for (const auto& wanted : {std::pair(640U, 480U), std::pair(701U, 503U), std::pair(701U, 503U), std::pair(800U, 600U)}) {
    const auto outcome = client_->set_screen(wanted.first, wanted.second);
    ASSERT_TRUE(outcome) << outcome.error().text();
    EXPECT_EQ(size(), wanted);
  }
  const auto refused = client_->set_screen(801, 600);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("800x600"));
  EXPECT_EQ(size(), std::pair(800U, 600U));
}

TEST_F(AgentSession, log_off_and_shutdown_run_their_commands) {
  ASSERT_TRUE(client_->log_off());
  EXPECT_TRUE(eventually([&] { return fs::exists(folder_ / "logged-off"); }));
  ASSERT_TRUE(client_->shut_down(true));
  EXPECT_TRUE(eventually([&] { return fs::exists(folder_ / "restarted"); }));
  EXPECT_FALSE(fs::exists(folder_ / "off"));
}

TEST_F(AgentSession, loss_of_the_display_closes_the_windows) {
  ASSERT_TRUE(client_->watch());
  const xcb_window_t window = open_window("Doomed");
  set_windows({window});
  ASSERT_TRUE(next<spec::agent::WindowOpenedEvent>());
  x_server_.reset();
  const auto closed = next<spec::agent::WindowClosedEvent>();
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->window, window);
  const auto windows = client_->list_windows();
  ASSERT_FALSE(windows);
  EXPECT_EQ(windows.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bygone

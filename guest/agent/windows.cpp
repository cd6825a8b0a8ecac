#include "windows.h"

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string_view>

namespace bygone::agent {
namespace {

constexpr std::array<std::string_view, 8> kAtomNames{"_NET_CLIENT_LIST",  "_NET_CLIENT_LIST_STACKING", "_NET_ACTIVE_WINDOW",
                                                     "_NET_WM_NAME",      "_NET_WM_PID",               "_NET_WM_STATE",
                                                     "_NET_WM_STATE_HIDDEN", "UTF8_STRING"};
/// In units of four bytes, as GetProperty counts.
constexpr std::uint32_t kTextWords = spec::agent::kMaximumTextSize / 4;

struct Free {
  void operator()(void* reply) const { std::free(reply); }  // NOLINT: XCB replies come from malloc
};
template <typename T>
using ReplyPointer = std::unique_ptr<T, Free>;

[[nodiscard]] std::string text_of(const xcb_get_property_reply_t* reply) {
  if (reply == nullptr || reply->format != 8) return {};
  std::string text(static_cast<const char*>(xcb_get_property_value(reply)),
                   static_cast<std::size_t>(xcb_get_property_value_length(reply)));
  return text;
}

[[nodiscard]] std::span<const std::uint32_t> words_of(const xcb_get_property_reply_t* reply) {
  if (reply == nullptr || reply->format != 32) return {};
  return {static_cast<const std::uint32_t*>(xcb_get_property_value(reply)),
          static_cast<std::size_t>(xcb_get_property_value_length(reply)) / 4};
}

[[nodiscard]] std::string up_to_nul(const std::string& text) { return text.substr(0, text.find('\0')); }

/// The requests about one window, sent together so that the whole list costs one round trip.
struct WindowQuestions {
  xcb_window_t window;
  xcb_get_geometry_cookie_t geometry;
  xcb_translate_coordinates_cookie_t place;
  xcb_get_property_cookie_t name, old_name, window_class, process, state;
};

}  // namespace

Result<std::unique_ptr<WindowList>> WindowList::connect(const std::string& display) {
  std::unique_ptr<WindowList> list(new WindowList(xcb_connect(display.c_str(), nullptr)));
  if (xcb_connection_has_error(list->connection_.get()) != 0) {
    return fail(ErrorCode::kNotFound, "there is no X server on display {}", display);
  }
  BYGONE_CHECK(list->start());
  return list;
}

Result<void> WindowList::start() {
  xcb_connection_t* connection = connection_.get();
  root_ = xcb_setup_roots_iterator(xcb_get_setup(connection)).data->root;
  std::array<xcb_intern_atom_cookie_t, kAtomCount> cookies{};
  for (std::size_t i = 0; i < kAtomCount; ++i) {
    cookies[i] = xcb_intern_atom(connection, 0, static_cast<std::uint16_t>(kAtomNames[i].size()), kAtomNames[i].data());
  }
  const std::uint32_t events = XCB_EVENT_MASK_PROPERTY_CHANGE;
  xcb_change_window_attributes(connection, root_, XCB_CW_EVENT_MASK, &events);
  for (std::size_t i = 0; i < kAtomCount; ++i) {
    const ReplyPointer<xcb_intern_atom_reply_t> reply(xcb_intern_atom_reply(connection, cookies[i], nullptr));
    if (reply == nullptr) return fail(ErrorCode::kIo, "the X server did not answer");
    atoms_[i] = reply->atom;
  }
  xcb_flush(connection);
  return {};
}

Result<bool> WindowList::drain() {
  bool changed = false;
  while (const ReplyPointer<xcb_generic_event_t> event{xcb_poll_for_event(connection_.get())}) {
    switch (event->response_type & 0x7F) {
      case XCB_PROPERTY_NOTIFY: {
        const auto* notify = reinterpret_cast<const xcb_property_notify_event_t*>(event.get());
        const auto relevant = notify->window == root_
                                  ? std::ranges::count(std::span(atoms_).first(3), notify->atom) > 0
                                  : notify->atom == xcb_atom_t{XCB_ATOM_WM_NAME} || notify->atom == xcb_atom_t{XCB_ATOM_WM_CLASS} ||
                                        std::ranges::count(std::span(atoms_).subspan(3, 3), notify->atom) > 0;
        changed = changed || relevant;
        break;
      }
      case XCB_DESTROY_NOTIFY:
        watched_.erase(reinterpret_cast<const xcb_destroy_notify_event_t*>(event.get())->window);
        changed = true;
        break;
      case XCB_CONFIGURE_NOTIFY:
      case XCB_MAP_NOTIFY:
      case XCB_UNMAP_NOTIFY:
      case XCB_REPARENT_NOTIFY:
        changed = true;
        break;
      default:
        break;  // errors about windows that went away meanwhile, and events nobody asked for
    }
  }
  if (xcb_connection_has_error(connection_.get()) != 0) return fail(ErrorCode::kIo, "the X server has ended");
  return changed;
}

std::vector<xcb_window_t> WindowList::windows_of(xcb_get_property_reply_t* reply) const {
  const auto words = words_of(reply);
  return {words.begin(), words.end()};
}

std::vector<xcb_window_t> WindowList::window_ids() {
  xcb_connection_t* connection = connection_.get();
  const auto stacking = xcb_get_property(connection, 0, root_, atoms_[kClientListStacking], XCB_ATOM_WINDOW, 0, spec::agent::kMaximumWindows);
  const auto plain = xcb_get_property(connection, 0, root_, atoms_[kClientList], XCB_ATOM_WINDOW, 0, spec::agent::kMaximumWindows);
  const ReplyPointer<xcb_get_property_reply_t> in_stack(xcb_get_property_reply(connection, stacking, nullptr));
  const ReplyPointer<xcb_get_property_reply_t> in_order(xcb_get_property_reply(connection, plain, nullptr));
  std::vector<xcb_window_t> windows = windows_of(in_stack.get());
  return windows.empty() ? windows_of(in_order.get()) : windows;
}

Result<std::vector<spec::agent::Window>> WindowList::list() {
  xcb_connection_t* connection = connection_.get();
  const auto active_cookie = xcb_get_property(connection, 0, root_, atoms_[kActiveWindow], XCB_ATOM_WINDOW, 0, 1);
  const std::vector<xcb_window_t> ids = window_ids();
  const ReplyPointer<xcb_get_property_reply_t> active_reply(xcb_get_property_reply(connection, active_cookie, nullptr));
  const auto active_words = words_of(active_reply.get());
  const xcb_window_t active = active_words.empty() ? xcb_window_t{XCB_WINDOW_NONE} : active_words[0];

  std::vector<WindowQuestions> questions;
  for (const xcb_window_t id : ids) {
    if (watched_.insert(id).second) {
      const std::uint32_t events = XCB_EVENT_MASK_PROPERTY_CHANGE | XCB_EVENT_MASK_STRUCTURE_NOTIFY;
      xcb_change_window_attributes(connection, id, XCB_CW_EVENT_MASK, &events);
    }
    const auto property = [&](xcb_atom_t atom, std::uint32_t words) {
      return xcb_get_property(connection, 0, id, atom, XCB_GET_PROPERTY_TYPE_ANY, 0, words);
    };
    questions.push_back({.window = id, .geometry = xcb_get_geometry(connection, id),
                         .place = xcb_translate_coordinates(connection, id, root_, 0, 0),
                         .name = property(atoms_[kWindowName], kTextWords), .old_name = property(XCB_ATOM_WM_NAME, kTextWords),
                         .window_class = property(XCB_ATOM_WM_CLASS, kTextWords), .process = property(atoms_[kWindowProcess], 1),
                         .state = property(atoms_[kWindowState], 32)});
  }
  std::vector<spec::agent::Window> windows;
  for (const WindowQuestions& question : questions) {
    const ReplyPointer<xcb_get_geometry_reply_t> geometry(xcb_get_geometry_reply(connection, question.geometry, nullptr));
    const ReplyPointer<xcb_translate_coordinates_reply_t> place(
        xcb_translate_coordinates_reply(connection, question.place, nullptr));
    const auto property = [&](xcb_get_property_cookie_t cookie) {
      return ReplyPointer<xcb_get_property_reply_t>(xcb_get_property_reply(connection, cookie, nullptr));
    };
    const auto name = property(question.name), old_name = property(question.old_name);
    const auto window_class = property(question.window_class), process = property(question.process);
    const auto state = property(question.state);
    if (geometry == nullptr || place == nullptr) continue;  // it went away meanwhile

    spec::agent::Window window;
    window.id = question.window;
    window.title = up_to_nul(text_of(name.get()));
    if (window.title.empty()) window.title = up_to_nul(text_of(old_name.get()));
    const std::string classes = text_of(window_class.get());
    window.instance_name = up_to_nul(classes);
    if (window.instance_name.size() < classes.size()) {
      window.class_name = up_to_nul(classes.substr(window.instance_name.size() + 1));
    }
    if (const auto words = words_of(process.get()); !words.empty()) window.process = words[0];
    window.x = place->dst_x;
    window.y = place->dst_y;
    window.width = geometry->width;
    window.height = geometry->height;
    window.is_active = question.window == active;
    window.is_minimized = std::ranges::count(words_of(state.get()), atoms_[kStateHidden]) > 0;
    windows.push_back(std::move(window));
  }
  if (xcb_connection_has_error(connection) != 0) return fail(ErrorCode::kIo, "the X server has ended");
  std::erase_if(watched_, [&ids](xcb_window_t id) { return std::ranges::find(ids, id) == ids.end(); });
  return windows;
}

}  // namespace bygone::agent

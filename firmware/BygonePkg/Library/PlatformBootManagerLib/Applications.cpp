// What boot loaders must not leave behind when they end: events whose functions lie in their images. UEFI has applications close their own,
// but one that faults cannot, and others forget to; a timer of theirs would go on calling what is no longer there.
//
//   StartImage() of an application -> its frame here -> CreateEvent() with a function of its image is noted -> its end closes what is left
//
// The frames are on the stack, one around each application that runs: Exit() comes back to its StartImage() whatever has happened.
// Boot services are called at or below TPL_NOTIFY, and interrupt each other.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

namespace bygone::boot {
namespace {

/// Boot services as they were.
EFI_IMAGE_START start_image;
EFI_CREATE_EVENT create_event;
EFI_CREATE_EVENT_EX create_event_ex;
EFI_CLOSE_EVENT close_event;

struct Noted {
  Noted* next;
  EFI_EVENT event;
};

/// An application while it runs.
class Application {
 public:
  Application(EFI_HANDLE handle, const EFI_LOADED_IMAGE_PROTOCOL& image);
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;
  ~Application();

  EFI_HANDLE handle() const { return handle_; }
  Application* outer() const { return outer_; }
  bool has(EFI_EVENT_NOTIFY function) const { return holds(image_, reinterpret_cast<UINTN>(function)); }

  void add(Noted* noted) {
    const RaisedTpl alone(TPL_HIGH_LEVEL);
    noted->next = events_;
    events_ = noted;
  }
  /// The note about an event, which is its owner's from now on; null: it is none of ours.
  Noted* take(EFI_EVENT event) {
    const RaisedTpl alone(TPL_HIGH_LEVEL);
    for (Noted** link = &events_; *link != nullptr; link = &(*link)->next) {
      Noted* const noted = *link;
      if (noted->event != event) continue;
      *link = noted->next;
      return noted;
    }
    return nullptr;
  }
  void close_events() {
    while (events_ != nullptr) {
      const Pool<Noted> noted(take(events_->event));
      if (noted) close_event(noted->event);
    }
  }

 private:
  const EFI_HANDLE handle_;
  const EFI_LOADED_IMAGE_PROTOCOL image_;
  Application* const outer_;
  Noted* events_ = nullptr;
};

Application* innermost;

Application::Application(EFI_HANDLE handle, const EFI_LOADED_IMAGE_PROTOCOL& image) : handle_(handle), image_(image), outer_(innermost) {
  innermost = this;
}

Application::~Application() {
  close_events();
  innermost = outer_;
}

EFI_STATUS EFIAPI start(EFI_HANDLE handle, UINTN* exit_data_bytes, CHAR16** exit_data) {
  const auto* const image = protocol_of<EFI_LOADED_IMAGE_PROTOCOL>(handle, gEfiLoadedImageProtocolGuid);
  if (image == nullptr || !is_application(*image)) return start_image(handle, exit_data_bytes, exit_data);
  const Application running(handle, *image);
  return start_image(handle, exit_data_bytes, exit_data);
}

/// Creates an event with `create_it()`, and notes it if its function is an application's.
template <typename Create>
EFI_STATUS create(EFI_EVENT_NOTIFY function, EFI_EVENT* event, Create create_it) {
  Application* owner = function == nullptr ? nullptr : innermost;
  while (owner != nullptr && !owner->has(function)) owner = owner->outer();
  if (owner == nullptr) return create_it();
  auto noted = Pool<Noted>::create();
  if (!noted) return EFI_OUT_OF_RESOURCES;
  const EFI_STATUS status = create_it();
  if (EFI_ERROR(status)) return status;
  noted->event = *event;
  owner->add(noted.release());
  return EFI_SUCCESS;
}

EFI_STATUS EFIAPI create_plain(UINT32 type, EFI_TPL level, EFI_EVENT_NOTIFY function, void* context, EFI_EVENT* event) {
  return create(function, event, [=] { return create_event(type, level, function, context, event); });
}

EFI_STATUS EFIAPI create_of_group(UINT32 type, EFI_TPL level, EFI_EVENT_NOTIFY function, const void* context, const EFI_GUID* group,
                                  EFI_EVENT* event) {
  return create(function, event, [=] { return create_event_ex(type, level, function, context, group, event); });
}

EFI_STATUS EFIAPI close(EFI_EVENT event) {
  for (Application* application = innermost; application != nullptr; application = application->outer()) {
    if (const Pool<Noted> noted(application->take(event)); noted) break;
  }
  return close_event(event);
}

/// Puts a boot service in the place of another, which is kept.
template <typename Service>
void replace(Service& service, Service& kept, Service ours) {
  kept = service;
  service = ours;
}

}  // namespace

void applications::watch() {
  replace(gBS->StartImage, start_image, start);
  replace(gBS->CreateEvent, create_event, create_plain);
  replace(gBS->CreateEventEx, create_event_ex, create_of_group);
  replace(gBS->CloseEvent, close_event, close);
  gBS->Hdr.CRC32 = 0;
  UINT32 crc = 0;
  gBS->CalculateCrc32(gBS, gBS->Hdr.HeaderSize, &crc);
  gBS->Hdr.CRC32 = crc;
}

void applications::silence(EFI_HANDLE handle) {
  if (innermost != nullptr && innermost->handle() == handle) innermost->close_events();
}

}  // namespace bygone::boot

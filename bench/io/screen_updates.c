// Runs in the guest: draws whole frames through the kernel's display driver, as fast as it is asked, and says how many it drew.
// Usage: screen_updates WIDTH HEIGHT FRAMES_A_SECOND SECONDS     (0 frames a second: as many as possible)
#define _GNU_SOURCE
#include <libdrm/drm.h>
#include <libdrm/drm_mode.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check(int result, const char* what) {
  if (result >= 0) return;
  perror(what);
  exit(1);
}

int main(int count, char** arguments) {
  if (count != 5) return 2;
  const uint32_t width = (uint32_t)atoi(arguments[1]), height = (uint32_t)atoi(arguments[2]);
  const double rate = atof(arguments[3]), seconds = atof(arguments[4]);
  const int card = open("/dev/dri/card0", O_RDWR);
  check(card, "/dev/dri/card0");
  check(ioctl(card, DRM_IOCTL_SET_MASTER, 0), "becoming master");
  uint32_t crtc = 0, connector = 0;
  struct drm_mode_card_res resources = {.count_crtcs = 1, .crtc_id_ptr = (uintptr_t)&crtc, .count_connectors = 1, .connector_id_ptr = (uintptr_t)&connector};
  check(ioctl(card, DRM_IOCTL_MODE_GETRESOURCES, &resources), "resources");
  struct drm_mode_create_dumb dumb = {.width = width, .height = height, .bpp = 32};
  check(ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, &dumb), "a buffer");
  struct drm_mode_fb_cmd buffer = {.width = width, .height = height, .pitch = dumb.pitch, .bpp = 32, .depth = 24, .handle = dumb.handle};
  check(ioctl(card, DRM_IOCTL_MODE_ADDFB, &buffer), "a framebuffer");
  struct drm_mode_map_dumb map = {.handle = dumb.handle};
  check(ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, &map), "mapping");
  uint32_t* pixels = mmap(NULL, dumb.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
  if (pixels == MAP_FAILED) check(-1, "mapping");
  const struct drm_mode_modeinfo mode = {.clock = (width + 160) * (height + 30) * 60 / 1000, .hdisplay = (uint16_t)width, .hsync_start = (uint16_t)(width + 48),
      .hsync_end = (uint16_t)(width + 80), .htotal = (uint16_t)(width + 160), .vdisplay = (uint16_t)height, .vsync_start = (uint16_t)(height + 3),
      .vsync_end = (uint16_t)(height + 8), .vtotal = (uint16_t)(height + 30), .vrefresh = 60, .name = "bench"};
  struct drm_mode_crtc set = {.set_connectors_ptr = (uintptr_t)&connector, .count_connectors = 1, .crtc_id = crtc, .fb_id = buffer.fb_id, .mode_valid = 1, .mode = mode};
  check(ioctl(card, DRM_IOCTL_MODE_SETCRTC, &set), "the mode");
  const double start = now();
  unsigned frames = 0;
  for (double at = start; at - start < seconds; at = now()) {
    memset(pixels, (int)(frames % 255), dumb.size);
    struct drm_mode_fb_dirty_cmd dirty = {.fb_id = buffer.fb_id};
    check(ioctl(card, DRM_IOCTL_MODE_DIRTYFB, &dirty), "drawing");
    ++frames;
    const double left = rate > 0 ? start + frames / rate - now() : 0;
    if (left > 0) nanosleep(&(struct timespec){0, (long)(left * 1e9)}, NULL);
  }
  printf("result: %.1f frames a second\n", frames / (now() - start));
  return 0;
}

// Whether a thread that serves a guest is worth interrupting the guest for, on a host that has no processor free for it.
//
// A guest with one request at a time waits for it: the sooner the better. One that has many at hand is, by a thread that runs at
// once, interrupted for each; let it hand over all of them first, and each side is woken once for many. Which of the two it is shows in
// how many there are when the thread looks. A thread that is always quick sees one each time, and so stands back now and then to
// find out. Where a processor is free none of this makes a difference: the thread runs there, at once.
//
// Threading: the thread's own.
#pragma once

#include <cstdint>

namespace bygone {

class Pace {
 public:
  /// The thread was woken and is about to look at what there is.
  void woken();
  /// So many requests there were.
  void found(std::uint64_t requests);
  [[nodiscard]] bool is_patient() const { return is_patient_; }

 private:
  void set_patient(bool is_patient);

  std::uint32_t until_look_ = 0;  ///< how often it is woken before it stands back
  std::uint32_t alone_ = 0;       ///< how often in sequence there was one request
  bool is_patient_ = false;
};

}  // namespace bygone

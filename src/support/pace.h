// Whether a thread that serves a guest is worth interrupting the guest for, on a host that has no processor free for it.
//
// A guest with one request at a time waits for it: the sooner the better. One that has many at hand is, by a thread that runs at
// once, interrupted for each; let it hand over all of them first, and each side is woken once for many. Which of the two it is shows in
// how many there are when the thread looks. A thread that is always quick sees one each time, and so lets the guest go on once in a
// while to find out. Where a processor is free none of this makes a difference: the thread runs there, at once.
//
// A guest that was handed something says so when it has taken it. Nobody waits for that receipt, so it should not interrupt the guest
// either: until it comes, the thread is patient. If a request comes with it, that one had to wait, and the next receipts are not
// waited for.
//
// Threading: the thread's own.
#pragma once

#include <cstdint>

namespace bygone {

class Pace {
 public:
  /// The thread was woken and is about to look at what there is.
  void woken();
  /// So many requests there were, and so many of them only say that the guest has taken what it was handed.
  void found(std::uint64_t requests, std::uint64_t receipts = 0);
  /// The guest was handed something and told so; it will say when it has taken it.
  void handed_over();
  [[nodiscard]] bool is_patient() const { return is_patient_; }

 private:
  void end_wait(bool was_for_receipt);
  void found_one(bool is_request);
  void apply();

  std::uint32_t alone_ = 0;       ///< how often in sequence there was one request
  bool is_patient_ = false;
  bool is_trying_ = false;        ///< patient until the next request
  bool awaits_receipt_ = false;   ///< patient until it is there
  bool waited_ = false;           ///< when it was woken
  bool is_batch_ = false;         ///< what the kernel was told
  std::uint32_t back_off_ = 0;    ///< how many receipts are not waited for after one with which something else came
  std::uint32_t until_wait_ = 0;
};

}  // namespace bygone

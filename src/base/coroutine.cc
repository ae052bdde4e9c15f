// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/coroutine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/fiber.hpp>
#include <boost/context/stack_context.hpp>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace mirrorfs {
namespace {

// As much as a thread has; only what is touched takes memory.
constexpr size_t kStackBytes = size_t{8} << 20;

// A stack with a guard page below it.
class GuardedStacks {
 public:
  boost::context::stack_context allocate() {
    const size_t guard = GuardBytes();
    void* base =
        mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    mprotect(base, guard, PROT_NONE);
    // The first page that is touched must not become two megabytes.
    madvise(base, guard + kStackBytes, MADV_NOHUGEPAGE);
    boost::context::stack_context stack;
    stack.size = kStackBytes;
    stack.sp = static_cast<char*>(base) + guard + kStackBytes;
    return stack;
  }

  void deallocate(boost::context::stack_context& stack) {
    char* bottom = static_cast<char*>(stack.sp) - stack.size;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(bottom, stack.size);
#endif
    munmap(bottom - GuardBytes(), GuardBytes() + stack.size);
  }

 private:
  static size_t GuardBytes() {
    return static_cast<size_t>(sysconf(_SC_PAGESIZE));
  }
};

// One side of the switch, for the sanitizers: where its stack is, and what
// they keep for it while it is not running.
struct Side {
  const void* stack_bottom = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
  void* thread = nullptr;
};

// Before a switch. `from` is null when it is not coming back.
void AnnounceSwitch(Side* from, const Side& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from == nullptr ? nullptr : &from->fake_stack,
                                 to.stack_bottom, to.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.thread, 0);
#endif
  (void)from;
  (void)to;
}

// After it, on the side that is running again; `other` is who ran before.
void AnnounceArrival(Side& self, Side* other) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(self.fake_stack, &bottom, &bytes);
  if (other != nullptr) {
    other->stack_bottom = bottom;
    other->stack_bytes = bytes;
  }
#endif
  (void)self;
  (void)other;
}

}  // namespace

struct Coroutine::State {
  std::function<void()> body;
  boost::context::fiber inside;   // while the body is suspended
  boost::context::fiber outside;  // while it runs: who resumed it
  bool ended = false;
  Side inner;
  Side outer;
};

Coroutine::Coroutine(std::function<void()> body)
    : state_(std::make_unique<State>()) {
  state_->body = std::move(body);
#if defined(__SANITIZE_THREAD__)
  state_->inner.thread = __tsan_create_fiber(0);
#endif
  GuardedStacks stacks;
  const boost::context::stack_context stack = stacks.allocate();
  state_->inner.stack_bottom = static_cast<char*>(stack.sp) - stack.size;
  state_->inner.stack_bytes = stack.size;
  const auto run = [state = state_.get()](boost::context::fiber&& outside) {
    AnnounceArrival(state->inner, &state->outer);
    state->outside = std::move(outside);
    state->body();
    state->body = nullptr;
    state->ended = true;
    AnnounceSwitch(nullptr, state->outer);
    return std::move(state->outside);
  };
  state_->inside = boost::context::fiber(
      std::allocator_arg,
      boost::context::preallocated(stack.sp, stack.size, stack), stacks, run);
}

Coroutine::~Coroutine() {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(state_->inner.thread);
#endif
}

bool Coroutine::Resume() {
  State& state = *state_;
#if defined(__SANITIZE_THREAD__)
  state.outer.thread = __tsan_get_current_fiber();
#endif
  // Not in `state`: by the time we are back, it may be another thread's.
  Side self;
  AnnounceSwitch(&self, state.inner);
  state.inside = std::move(state.inside).resume();
  AnnounceArrival(self, nullptr);
  return !state.ended;
}

void Coroutine::Suspend() {
  State& state = *state_;
  AnnounceSwitch(&state.inner, state.outer);
  state.outside = std::move(state.outside).resume();
  AnnounceArrival(state.inner, &state.outer);
}

}  // namespace mirrorfs

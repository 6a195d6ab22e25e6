#include "kindred/internal/throw_stack.hpp"

#include <array>
#include <typeinfo>

#include <cxxabi.h>
#include <unwind.h>

#include "kindred/internal/crash_report.hpp"

namespace kindred::internal {
namespace {

// Raw addresses: turned into references once the exception is caught.
struct Noted {
  std::array<std::uintptr_t, throw_stack_limit> frames;
  std::size_t count;
};
thread_local Noted noted;

_Unwind_Reason_Code note_frame(_Unwind_Context* context, void*) {
  if (noted.count == noted.frames.size()) return _URC_END_OF_STACK;
  int before_instruction = 0;
  const std::uintptr_t at = _Unwind_GetIPInfo(context, &before_instruction);
  // A return address points behind the call. The call may be the last instruction of its function, so one
  // byte before it is looked up.
  noted.frames[noted.count++] = before_instruction != 0 ? at : at - 1;
  return _URC_NO_REASON;
}

}  // namespace

#if !defined(KINDRED_UNTRIED_VERSIONS)
static_assert(
    _GLIBCXX_RELEASE >= 12 && _GLIBCXX_RELEASE <= 16,
    "kindred notes the stack of a throw by means of libstdc++'s type_info, which was tried with g++ 12 to 16. "
    "Configure with -DKINDRED_UNTRIED_VERSIONS=ON, run exception_test, and raise the version here.");
#endif

// The type_info of ThrowWitness. libstdc++ asks it whether it catches an exception, and asks by a virtual
// function: in the first phase of unwinding, which only searches. (For a forced unwind, pthread_exit's, there
// is no such phase: the stack is being taken down already.)
class [[gnu::visibility("default")]] WitnessType final : public std::type_info {
 public:
  explicit WitnessType(const char* name) noexcept : std::type_info{name} {}
  bool __do_catch(const std::type_info* thrown, void**, unsigned) const override {
    noted.count = 0;
    if (*thrown != typeid(abi::__forced_unwind)) _Unwind_Backtrace(&note_frame, nullptr);
    return false;
  }
};

// By the name that compilers refer to it (Itanium C++ ABI, 5.1.4.2). Made before whatever may throw: it has a
// constructor.
extern const WitnessType type_of_throw_witness __asm__("_ZTIN7kindred8internal12ThrowWitnessE");
[[gnu::init_priority(101)]] const WitnessType type_of_throw_witness{"N7kindred8internal12ThrowWitnessE"};

std::vector<CodeReference> take_throw_stack() {
  std::vector<CodeReference> stack;
  stack.reserve(noted.count);
  for (std::size_t i = 0; i < noted.count; ++i) stack.push_back(reference_in_parent(noted.frames[i]));
  noted.count = 0;
  return stack;
}

}  // namespace kindred::internal

#pragma once

#include <vector>

#include "kindred/internal/code_reference.hpp"

namespace kindred::internal {

/// Stands in a catch clause before the last one, `catch (...)`, of the same try block, where exceptions of
/// tasks end:
///
///     } catch (const ThrowWitness&) {  // never: it notes the stack
///       throw;
///     } catch (...) {
///
/// It catches nothing. Before anything is unwound, the C++ runtime asks each clause on the way whether it
/// takes what was thrown; the answer of this one is a function of ours, which notes the frames, all of which
/// still stand. So an exception that is caught further in costs nothing, and no throw is hooked. How:
/// throw_stack.cpp.
class [[gnu::visibility("default")]] ThrowWitness {
 public:
  virtual ~ThrowWitness();  // defined nowhere: so the compiler puts the class's type_info nowhere, and takes
                            // ours
};

inline constexpr std::size_t throw_stack_limit =
    40;  ///< frames: about 32 of the task's, and those of the throw itself

/// The stack of the last exception of this thread that came to a `ThrowWitness`, innermost first, each the
/// place of a call; it is forgotten then.
[[nodiscard]] std::vector<CodeReference> take_throw_stack();

}  // namespace kindred::internal

#pragma once

#include <cstdint>
#include <vector>

#include "kindred/log_record.hpp"

namespace kindred::internal {

/// A `LogScope` on its thread's stack of them.
struct ScopeNode {
  ScopeNode* outer = nullptr;
  std::uint64_t serial = 0;
  std::vector<Field> fields;  ///< of this and all outer ones
};
extern constinit thread_local ScopeNode* innermost_scope;

}  // namespace kindred::internal

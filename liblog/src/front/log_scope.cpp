#include "kindred/log_scope.hpp"

#include <atomic>
#include <memory>

#include "front/scope.hpp"
#include "kindred/internal/log_front.hpp"

namespace kindred {
namespace internal {

constinit thread_local ScopeNode* innermost_scope = nullptr;

namespace {
constinit std::atomic<std::uint64_t> last_scope{0};

void set_field(std::vector<Field>& fields, const Field& field) {
  for (Field& known : fields) {
    if (known.key == field.key) {
      known.value = field.value;
      return;
    }
  }
  fields.push_back(field);
}

}  // namespace
}  // namespace internal

LogScope::LogScope(std::initializer_list<LogField> fields) {
  auto node = std::make_unique<internal::ScopeNode>();
  node->outer = internal::innermost_scope;
  node->serial = internal::last_scope.fetch_add(1, std::memory_order_relaxed) + 1;
  if (node->outer != nullptr) node->fields = node->outer->fields;
  for (const LogField& item : fields) internal::set_field(node->fields, item.field);
  internal::thread_lane.scope_serial = node->serial;
  internal::innermost_scope = node.release();
}

LogScope::~LogScope() {
  const std::unique_ptr<internal::ScopeNode> node{internal::innermost_scope};
  internal::innermost_scope = node->outer;
  internal::thread_lane.scope_serial = node->outer != nullptr ? node->outer->serial : 0;
}

}  // namespace kindred

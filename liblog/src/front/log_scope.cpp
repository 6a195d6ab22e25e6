#include "kindred/log_scope.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

#include "front/scope.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/stack_bounds.hpp"

namespace kindred {
namespace internal {
namespace {

constinit std::atomic<std::uint64_t> last_scope{0};

std::uint64_t next_serial() noexcept { return last_scope.fetch_add(1, std::memory_order_relaxed) + 1; }

void set_field(std::vector<Field>& fields, const Field& field) {
  for (Field& known : fields) {
    if (known.key == field.key) {
      known.value = field.value;
      return;
    }
  }
  fields.push_back(field);
}

/// The thread's list, for as long as the thread lives.
struct Here {
  std::shared_ptr<ThreadScopes> scopes;
  ~Here() {
    if (scopes != nullptr) scopes->thread_ends();
  }
};
thread_local Here here_on_this_thread;
// Trivial, so that log calls of static destructors may look.
constinit thread_local ThreadScopes* scopes_of_thread = nullptr;

}  // namespace

std::shared_ptr<ThreadScopes> ThreadScopes::here() {
  Here& mine = here_on_this_thread;
  if (mine.scopes == nullptr) {
    mine.scopes = std::make_shared<ThreadScopes>(thread_lane.scope_serial);
    scopes_of_thread = mine.scopes.get();
  }
  return mine.scopes;
}

/// Under the lock: has the next log call of the thread send what is in force now.
void ThreadScopes::tell() noexcept {
  if (serial_ != nullptr)
    serial_->store(nodes_.empty() ? 0 : nodes_.back()->serial, std::memory_order_relaxed);
}

void ThreadScopes::add(const std::shared_ptr<ScopeNode>& node) {
  auto self = shared_from_this();
  const std::lock_guard hold{lock_};
  nodes_.push_back(node);
  node->serial = next_serial();
  node->home = std::move(self);
  tell();
}

void ThreadScopes::remove(const ScopeNode& node) noexcept {
  const std::lock_guard hold{lock_};
  const auto found = std::ranges::find(nodes_, &node, &std::shared_ptr<ScopeNode>::get);
  if (found == nodes_.end()) return;
  // Those made after it were sent together with its fields: they are to be sent anew, under other names.
  for (auto later = nodes_.erase(found); later != nodes_.end(); ++later) (*later)->serial = next_serial();
  tell();
}

std::vector<std::shared_ptr<ScopeNode>> ThreadScopes::take_carried(const ScopeNode* until) {
  std::vector<std::shared_ptr<ScopeNode>> carried;
  const std::lock_guard hold{lock_};
  while (!nodes_.empty() && !nodes_.back()->is_on_stack && nodes_.back().get() != until) {
    carried.push_back(std::move(nodes_.back()));
    nodes_.pop_back();
    carried.back()->home = nullptr;
  }
  std::ranges::reverse(carried);
  tell();
  return carried;
}

const ScopeNode* ThreadScopes::innermost() const noexcept {
  const std::lock_guard hold{lock_};
  return nodes_.empty() ? nullptr : nodes_.back().get();
}

std::vector<Field> ThreadScopes::fields() const {
  std::vector<Field> all;
  const std::lock_guard hold{lock_};
  for (const auto& node : nodes_) {
    for (const Field& field : node->fields) set_field(all, field);
  }
  return all;
}

void ThreadScopes::thread_ends() noexcept {
  scopes_of_thread = nullptr;
  const std::lock_guard hold{lock_};
  tell();
  serial_ = nullptr;
}

std::vector<Field> fields_of_scopes() {
  return scopes_of_thread != nullptr ? scopes_of_thread->fields() : std::vector<Field>{};
}

// --- what a coroutine carries ---

struct CarriedScopes::Nodes {
  std::vector<std::shared_ptr<ScopeNode>> all;
};

CarriedScopes::CarriedScopes() noexcept = default;
CarriedScopes::CarriedScopes(CarriedScopes&&) noexcept = default;
CarriedScopes& CarriedScopes::operator=(CarriedScopes&&) noexcept = default;
CarriedScopes::~CarriedScopes() = default;

const void* CarriedScopes::innermost() noexcept {
  return scopes_of_thread != nullptr ? scopes_of_thread->innermost() : nullptr;
}

void CarriedScopes::take(const void* until) {
  if (scopes_of_thread == nullptr) return;
  auto taken = scopes_of_thread->take_carried(static_cast<const ScopeNode*>(until));
  if (taken.empty()) return;
  if (nodes_ == nullptr) nodes_ = std::make_unique<Nodes>();
  nodes_->all = std::move(taken);
}

void CarriedScopes::put() {
  if (nodes_ == nullptr) return;
  const auto here = ThreadScopes::here();
  for (const auto& node : nodes_->all) here->add(node);
  nodes_->all.clear();
}

}  // namespace internal

LogScope::LogScope(std::initializer_list<LogField> fields) {
  auto node = std::make_shared<internal::ScopeNode>();
  for (const LogField& item : fields) internal::set_field(node->fields, item.field);
  node->is_on_stack = internal::is_on_this_stack(this);
  internal::ThreadScopes::here()->add(node);
  node_ = std::move(node);
}

LogScope::~LogScope() {
  // Kept by this: the list may hold the last but one reference.
  if (const auto home = node_->home; home != nullptr) home->remove(*node_);
}

}  // namespace kindred

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kindred/internal/code_reference.hpp"

namespace kindred::internal {

/// The tasks of one name. `given` and `code` never change once the entry is there, so a thread that was
/// handed a pointer to it may read those two without a lock.
struct TaskNameEntry {
  std::string given;         ///< TaskOptions::name; empty: the name is that of `code`
  CodeReference code = 0;    ///< of the function, or of the entry where the task has no function
  std::uint64_t ended = 0;   ///< runs that ended in a worker, retries included
  std::uint64_t failed = 0;  ///< of these, with an error
  std::uint64_t lost = 0;    ///< runs that ended with their worker
  std::uint64_t run_nanoseconds = 0;
  std::uint64_t queue_nanoseconds = 0;
  std::uint64_t longest_nanoseconds = 0;
};

/// The tasks that a pool ran, by name. At most `limit` names; tasks of further names share one entry.
/// Guarded by the pool's lock.
class TaskNames {
 public:
  static constexpr std::size_t limit = 512;

  TaskNameEntry& of_code(CodeReference code) {
    if (latest_ != nullptr && latest_->code == code && latest_->given.empty()) return *latest_;
    const auto found = by_code_.find(code);
    return *(latest_ = found != by_code_.end() ? found->second : add({}, code));
  }
  TaskNameEntry& of_name(std::string_view name) {
    const auto found = by_name_.find(name);
    return found != by_name_.end() ? *found->second : *add(name, 0);
  }
  [[nodiscard]] const std::deque<TaskNameEntry>& all() const noexcept { return entries_; }

 private:
  TaskNameEntry* add(std::string_view name, CodeReference code) {
    if (entries_.size() >= limit) {
      if (others_ == nullptr) others_ = &entries_.emplace_back(TaskNameEntry{.given = "(further names)"});
      return others_;
    }
    TaskNameEntry& entry = entries_.emplace_back(TaskNameEntry{.given = std::string{name}, .code = code});
    if (name.empty())
      by_code_.emplace(code, &entry);
    else
      by_name_.emplace(entry.given, &entry);
    return &entry;
  }

  std::deque<TaskNameEntry> entries_;  // a deque, because others keep pointers to its elements
  std::unordered_map<CodeReference, TaskNameEntry*> by_code_;
  std::unordered_map<std::string_view, TaskNameEntry*> by_name_;
  TaskNameEntry* latest_ = nullptr;
  TaskNameEntry* others_ = nullptr;
};

}  // namespace kindred::internal

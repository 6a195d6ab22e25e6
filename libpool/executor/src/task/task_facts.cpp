#include "task/task_facts.hpp"

#include <algorithm>
#include <utility>

#include "kindred/internal/function_name.hpp"
#include "kindred/internal/task_entry.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t longest_name = 4096;

}  // namespace

std::string name_of_code(const CodeBook& code, CodeReference reference) {
  const void* const address = code.address(reference);
  if (address == nullptr) return {};
  if (auto name = function_name(address); !name.empty()) return name;
  // The reference is that of a task's entry, which is an object of ours; or of a function of a stripped
  // program. So nothing is read that is not known to be there.
  if (reinterpret_cast<std::uintptr_t>(address) % alignof(EntryInfo) == 0 &&
      is_loaded(address, sizeof(EntryInfo), true)) {
    const auto name = static_cast<const EntryInfo*>(address)->name;
    if (name.size() <= longest_name && is_loaded(name.data(), name.size(), false)) return std::string{name};
  }
  return place_name(address);
}

std::string name_of_reported_code(const CodeBook& code, CodeReference reference) {
  const void* const address = code.address(reference);
  if (address == nullptr) return {};
  std::string name = function_name(address);
  EntryInfo info;
  if (!name.empty() || reinterpret_cast<std::uintptr_t>(address) % alignof(EntryInfo) != 0 ||
      !copy_constant(address, &info, sizeof info))
    return name;
  name.resize(std::min(info.name.size(), longest_name));
  if (!copy_constant(info.name.data(), name.data(), name.size())) name.clear();
  return name;
}

std::string name_of_task(const CodeBook& code, const TaskState& task) {
  if (task.options && !task.options->name.empty()) return task.options->name;
  return name_of_code(code, task.function != 0 ? task.function : task.entry);
}

TaskFacts facts_of(const TaskState& task, const std::shared_ptr<const CodeBook>& code,
                   const WorkerIdentity* worker) {
  TaskFacts facts;
  if (worker != nullptr) facts = facts_about(*worker, {});
  facts.task_id = task.id;
  facts.task_name = name_of_task(*code, task);
  facts.attempt = task.ended_attempts();
  facts.code = code;
  return facts;
}

TaskFacts facts_about(const WorkerIdentity& worker, std::string what) {
  TaskFacts facts;
  facts.task_name = std::move(what);
  facts.worker = worker.index;
  facts.pid = worker.pid;
  facts.incarnation = worker.incarnation;
  return facts;
}

}  // namespace kindred::internal

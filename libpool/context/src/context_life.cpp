#include "kindred/internal/context_life.hpp"

#include "kindred/error.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {
namespace {

// What this process works for: written once at a worker's bootstrap, while it has one thread.
struct Service {
  ContextId context;
  std::uint32_t owner = 0;
  std::uint32_t pid = 0;
  std::shared_ptr<ContextLife> life;
};
Service& service() {
  static Service the_service;
  return the_service;
}

}  // namespace

void serve_context(ContextId id, std::uint32_t owner) {
  service() = {id, owner, process_id(), std::make_shared<ContextLife>(id)};
}

ContextId served_context() noexcept {
  const Service& mine = service();
  return mine.pid == process_id() ? mine.context
                                  : ContextId{};  // a process that a task forked serves no context
}

std::shared_ptr<ContextLife> served_life(ContextId id) {
  if (served_context() == id && id) return service().life;
  return std::make_shared<ContextLife>(id);
}

std::uint32_t owner_here(ContextId id) noexcept {
  if (!id) return 0;
  if (id.owner_pid() == process_id()) return 1;
  return served_context() == id ? service().owner : 0;
}

void require_here(const char* what, const ContextLife& life) {
  if (owner_here(life.id) == 0) [[unlikely]]
    throw_foreign_handle(what, life.id, {});
  if (!life.open.load(std::memory_order_relaxed)) [[unlikely]] {
    throw UsageError{std::string{"this "} + what + " belongs to " + to_string(life.id) +
                     ", whose executor has been destroyed, and was used in pid " +
                     std::to_string(process_id()) + ", which works for " + to_string(served_context()) +
                     ". Use it before its executor goes, or make one with the executor that lives."};
  }
}

}  // namespace kindred::internal

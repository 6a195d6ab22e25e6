#include "kindred/internal/context.hpp"

#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"
#include "linux/child.hpp"
#include "linux/kernel_check.hpp"

namespace kindred::internal {

Context::Context(Passkey<PoolCore>, StartMethod method, MakeLauncher make_launcher)
    : make_launcher_{std::move(make_launcher)},
      life_{std::make_shared<ContextLife>(ContextId::make(method))} {
  keep_standard_places();  // before kindred opens a descriptor, which must not become number 0, 1 or 2
  require_kernel(method);
}

Context::~Context() { life_->open.store(false, std::memory_order_relaxed); }

void Context::begin(const WorkerOptions& options, std::vector<std::byte> pool_setup, CodeReference prepare,
                    void (*around_fork)(void (*fork)(void*), void* argument)) {
  if (options.sandbox) {
    setup_.sandbox = plan_sandbox(*options.sandbox);
    // Before a server or a template: it is moved with the program, if that is moved.
    auto [groups, why_not] = WorkerGroups::make(options.sandbox->memory_bytes);
    groups_ = std::move(groups);
    setup_.sandbox->why_no_groups = std::move(why_not);
    if (groups_) setup_.sandbox->groups = groups_->folder();
  }
  std::error_code
      nowhere;  // a deleted working directory is the parent's business: the worker then stays where it is
  setup_.cwd = std::filesystem::current_path(nowhere).string();
  setup_.umask = file_mode_mask();
  setup_.options = options;
  environment_ = std::make_shared<const std::vector<std::string>>(
      options.clear_env ? std::vector<std::string>{} : copy_environment());
  setup_.pool_setup = std::move(pool_setup);
  prepare_ = prepare;
  if (start_method() == StartMethod::fork) {
    launcher_ = make_launcher_({.context = id(),
                                .setup = nullptr,
                                .options = options,
                                .environment = environment_,
                                .around_fork = around_fork});
  }
}

void Context::end_launcher() noexcept {
  launcher_.reset();
  groups_.reset();  // after the server, which ends what is left of the workers
}

MemoryEvents Context::end_worker_group(std::uint32_t owner) noexcept {
  return groups_ ? groups_->end(owner) : MemoryEvents{};
}

void Context::tell(std::vector<std::byte> pool_setup) {
  setup_.pool_setup = std::move(pool_setup);
  setup_memory_.reset();
}

const SharedBell& Context::bell(std::unique_ptr<SharedBell>& place) {
  const std::scoped_lock lock{bells_mutex_};
  if (!place) place = std::make_unique<SharedBell>();
  return *place;
}

void Context::write_setup_once() {
  if (setup_memory_) return;
  for (std::size_t i = 0; i < code_->size(); ++i) {
    if (i >= setup_.modules.size()) setup_.modules.push_back(code_->module(i));
  }
  setup_memory_ = write_setup(setup_, &setup_bytes_);
}

void Context::make_launcher_once() {
  if (launcher_) return;
  write_setup_once();
  launcher_ = make_launcher_({.context = id(),
                              .setup = setup_memory_,
                              .setup_bytes = setup_bytes_,
                              .prepare = prepare_,
                              .options = setup_.options,
                              .environment = environment_});
}

bool Context::prepare_launcher() {
  make_launcher_once();
  return launcher_->prepare();
}

AskedWorker Context::ask_for_worker() {
  make_launcher_once();
  return launcher_->ask();
}

void Context::greet_worker(const AskedWorker& worker, int index, std::uint32_t incarnation,
                           std::uint32_t owner, const Segment& segment, int collector_bell,
                           std::span<const int> capture_fds, CodeReference main) {
  write_setup_once();
  if (groups_) groups_->add(owner);
  const Hello hello{.role = Hello::Role::worker,
                    .index = index,
                    .incarnation = incarnation,
                    .owner = owner,
                    .parent_pid = process_id(),
                    .captures_output = capture_fds.empty() ? 0U : 1U,
                    .context = id(),
                    .segment_bytes = segment.size(),
                    .setup_bytes = setup_bytes_,
                    .main = main};
  std::vector<int> fds{waiter_bell().fd(), service_bell().fd(), collector_bell};
  fds.insert(fds.end(), capture_fds.begin(), capture_fds.end());
  fds.insert(fds.end(),
             {segment.fd(),
              setup_memory_->fd()});  // last: the worker closes them, and the others keep their numbers
  KINDRED_INJECTION_POINT("parent.start.before_hello");
  launcher_->greet(worker, hello, fds);
}

}  // namespace kindred::internal

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <spdlog/async.h>
#include <spdlog/details/periodic_worker.h>
#include <spdlog/details/registry.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>
#include <spdlog/spdlog.h>

#include "front/front.hpp"
#include "front/place.hpp"
#include "kindred/internal/log_front.hpp"

namespace kindred::internal {
namespace {

Level level_of(spdlog::level::level_enum level) noexcept {
  static_assert(static_cast<int>(spdlog::level::trace) == static_cast<int>(Level::trace) &&
                static_cast<int>(spdlog::level::off) == static_cast<int>(Level::off));
  return static_cast<Level>(std::clamp(static_cast<int>(level), 0, static_cast<int>(Level::critical)));
}

/// How often a formatter that bridges a logger has gone: the logger has got another one, or is gone itself.
constinit std::atomic<std::uint64_t> bridges_lost{0};

/// A logger with several sinks brings each message once for each of them. Is it a new one?
bool is_new(const spdlog::details::log_msg& msg) noexcept {
  thread_local const void* latest = nullptr;
  thread_local spdlog::log_clock::time_point latest_time;
  if (latest == &msg && latest_time == msg.time) return false;
  latest = &msg;
  latest_time = msg.time;
  return true;
}

/// Logs a message of spdlog's as a record of this process.
void write_bridged(const spdlog::details::log_msg& msg, const Binding* binding, std::uint32_t tid) noexcept {
  const Level level = level_of(msg.level);
  const LogTarget target{process_log.front.load(std::memory_order_acquire), binding};
  const bool enabled =
      binding != nullptr && !binding->name.empty()
          ? binding_enabled(target.front, *binding, level)
          : level_passes(process_log.levels.load(std::memory_order_relaxed)->load(std::memory_order_relaxed),
                         level);
  if (!enabled) return;
  const auto text = [](const char* words) {
    return words != nullptr ? std::string_view{words} : std::string_view{};
  };
  // File and line distinguish it; the line takes the place of a format's address.
  const Place place{msg.source.filename,
                    reinterpret_cast<const char*>(static_cast<std::uintptr_t>(msg.source.line)),
                    {},
                    text(msg.source.filename),
                    text(msg.source.funcname),
                    static_cast<std::uint32_t>(std::max(msg.source.line, 0))};
  write_message_at(target, level, place, {msg.payload.data(), msg.payload.size()}, {}, tid);
}

/// What takes the place of a bridged logger's sinks.
class LaneSink final : public spdlog::sinks::sink {
 public:
  /// `asynchronous`: called by spdlog's thread on behalf of others.
  LaneSink(const std::string& logger, bool asynchronous)
      : binding_{logger, {}}, asynchronous_{asynchronous} {}

  void log(const spdlog::details::log_msg& msg) override {
    if (!is_new(msg)) return;
    const auto tid = asynchronous_ ? static_cast<std::uint32_t>(msg.thread_id) : 0;
    const std::string_view name{msg.logger_name.data(), msg.logger_name.size()};
    if (name == binding_.name) return write_bridged(msg, name.empty() ? nullptr : &binding_, tid);
    const Binding other{std::string{name}, {}};  // a clone of the logger, under another name
    write_bridged(msg, &other, tid);
  }
  void flush() override {}
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

 private:
  Binding binding_;
  bool asynchronous_;
};

/// How loggers that are made later join: the registry gives each of them a clone of its formatter, and sinks
/// ask that for the line to write. This one writes a record, and gives an empty line. The sinks stay, because
/// another thread may be using them.
class BridgeFormatter final : public spdlog::formatter {
 public:
  BridgeFormatter() = default;
  BridgeFormatter(const BridgeFormatter&) = delete;
  BridgeFormatter& operator=(const BridgeFormatter&) = delete;
  ~BridgeFormatter() override { bridges_lost.fetch_add(1, std::memory_order_relaxed); }
  void format(const spdlog::details::log_msg& msg, spdlog::memory_buf_t&) override {
    if (!is_new(msg)) return;
    const std::string_view name{msg.logger_name.data(), msg.logger_name.size()};
    if (name.empty()) return write_bridged(msg, nullptr, 0);
    if (binding_ == nullptr || binding_->name != name)
      binding_ = std::make_unique<const Binding>(std::string{name}, std::vector<Field>{});
    write_bridged(msg, binding_.get(), 0);
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<BridgeFormatter>();
  }

 private:
  std::unique_ptr<const Binding> binding_;  ///< sinks call their formatter under their lock
};

// spdlog has no words for what a fork does to it: threads that are not there, joined at exit. So two of its
// private members are reached in the way that the language leaves open, an explicit instantiation
// ([temp.spec]/6).
#if !defined(KINDRED_UNTRIED_VERSIONS)
static_assert(
    SPDLOG_VERSION >= 11000 && SPDLOG_VERSION < 11600,
    "kindred reaches two private members of spdlog, which was tried with spdlog 1.10 to 1.15. Configure with "
    "-DKINDRED_UNTRIED_VERSIONS=ON, run log_bridge_test and log_test, and raise the version here.");
#endif
template <class Tag, auto Member>
struct Reach {
  friend auto& reach(Tag, typename Tag::Class& object) noexcept { return object.*Member; }
};
struct FlusherTag {
  using Class = spdlog::details::registry;
};
auto& reach(FlusherTag, spdlog::details::registry&) noexcept;
template struct Reach<FlusherTag, &spdlog::details::registry::periodic_flusher_>;
struct PoolTag {
  using Class = spdlog::async_logger;
};
auto& reach(PoolTag, spdlog::async_logger&) noexcept;
template struct Reach<PoolTag, &spdlog::async_logger::thread_pool_>;

struct LoggersTag {
  using Class = spdlog::details::registry;
};
auto& reach(LoggersTag, spdlog::details::registry&) noexcept;
template struct Reach<LoggersTag, &spdlog::details::registry::loggers_>;

/// Differs from an earlier look where loggers were added since: one registered by hand gets no formatter of
/// ours.
struct RegistrySeen {
  std::size_t loggers = 0;
  const void* usual = nullptr;
  std::uint64_t lost = 0;
  friend bool operator==(const RegistrySeen&, const RegistrySeen&) = default;
};
constinit RegistrySeen registry_seen;

/// Looked at without the registry's lock: what another thread is just changing is seen at the next look.
__attribute__((no_sanitize("thread"))) RegistrySeen look_at_registry() noexcept {
  auto& registry = spdlog::details::registry::instance();
  return {.loggers = reach(LoggersTag{}, registry).size(),
          .usual = spdlog::default_logger_raw(),
          .lost = bridges_lost.load(std::memory_order_relaxed)};
}

/// The sinks of the parent: never called and never destroyed here. Within reach, so that LeakSanitizer does
/// not call it a leak.
void leak(std::vector<spdlog::sink_ptr>&& sinks) {
  static auto* const kept = new std::vector<std::vector<spdlog::sink_ptr>>;
  kept->push_back(std::move(sinks));
}

void take_over(spdlog::logger& logger, bool asynchronous) {
  const spdlog::sink_ptr lane = std::make_shared<LaneSink>(logger.name(), asynchronous);
  leak(std::exchange(logger.sinks(), {lane}));
}

}  // namespace

void with_spdlog_registry_held(void (*fork_it)(void*), void* argument) {
  // What the parent's streams hold would be written once more by each child that leaves by exit.
  std::fflush(nullptr);
  bool done = false;
  spdlog::apply_all([&](const std::shared_ptr<spdlog::logger>&) {
    if (!std::exchange(done, true)) fork_it(argument);
  });
  if (!done) fork_it(argument);  // an empty registry: no thread calls into it all the time
}

void forget_spdlog_threads() {
  auto& registry = spdlog::details::registry::instance();
  // Never destroyed, but reachable from here, so that LeakSanitizer does not report them as leaks.
  static auto* const kept = new std::vector<
      std::pair<const spdlog::details::periodic_worker*, std::shared_ptr<spdlog::details::thread_pool>>>;
  kept->emplace_back(reach(FlusherTag{}, registry).release(), registry.get_tp());
}

void bridge_spdlog() {
  auto& registry = spdlog::details::registry::instance();
  std::vector<std::shared_ptr<spdlog::logger>> loggers;
  spdlog::apply_all([&loggers](const std::shared_ptr<spdlog::logger>& logger) { loggers.push_back(logger); });
  const auto usual = spdlog::default_logger();
  if (usual != nullptr && std::find(loggers.begin(), loggers.end(), usual) == loggers.end())
    loggers.push_back(usual);
  for (const auto& logger : loggers) {
    const auto asynchronous = std::dynamic_pointer_cast<spdlog::async_logger>(logger);
    take_over(*logger, asynchronous != nullptr);
    if (asynchronous == nullptr) continue;
    // A lookup in the registry finds a synchronous one of the same name and levels ...
    const auto synchronous =
        std::make_shared<spdlog::logger>(logger->name(), std::make_shared<LaneSink>(logger->name(), false));
    synchronous->set_level(logger->level());
    synchronous->flush_on(logger->flush_level());
    if (logger == usual) {
      spdlog::set_default_logger(synchronous);
    } else if (spdlog::get(logger->name()) == logger) {
      spdlog::drop(logger->name());
      spdlog::register_logger(synchronous);
    }
    // ... and the old one, where the program still holds it, gets a thread that exists here.
    static const auto pool = std::make_shared<spdlog::details::thread_pool>(8192, 1);
    reach(PoolTag{}, *asynchronous) = pool;
  }
  registry.set_formatter(std::make_unique<BridgeFormatter>());
  spdlog_is_bridged = true;
  registry_seen = look_at_registry();
}

constinit bool spdlog_is_bridged = false;

void keep_spdlog_bridged() noexcept {
  if (look_at_registry() == registry_seen) [[likely]]
    return;
  try {
    // Under the registry's lock and the sinks' own: other threads may be logging. Sinks are kept, so that no
    // thread loses one that it is in.
    spdlog::details::registry::instance().set_formatter(std::make_unique<BridgeFormatter>());
    if (const auto usual = spdlog::default_logger(); usual != nullptr)
      usual->set_formatter(std::make_unique<BridgeFormatter>());
  } catch (const std::exception&) {
    return;  // no memory: tried again before the next task
  }
  registry_seen = look_at_registry();
}

}  // namespace kindred::internal

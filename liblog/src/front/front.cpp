#include "front/front.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/last_words.hpp"
#include "kindred/log.hpp"
#include "kindred/sink_options.hpp"
#include "record/level_table.hpp"

namespace kindred::internal {
namespace {

constinit std::atomic<std::uint32_t> last_serial{0};
constinit std::atomic<std::uint32_t> stderr_word{static_cast<std::uint32_t>(Level::info)};
constinit std::atomic<bool> attached{false};
constexpr std::uint32_t first_generation = 1;  ///< of a process that was not forked since its program began

LevelSettings settings_of_environment() {
  LevelSettings settings;
  for (const char* const variable : {"KINDRED_LOG_LEVEL", "SPDLOG_LEVEL"}) {
    const char* const text = std::getenv(variable);
    if (text == nullptr) continue;
    try {
      return parse_level_settings(variable, text);
    } catch (const UsageError&) {
      return settings;  // an executor says so, with the variable's name; a log call must not
    }
  }
  return settings;
}

// Fronts over private memory. Never destroyed: see LogFront.
struct LocalFronts {
  SmallLock lock;
  std::vector<LogFront*> idle;
  std::vector<LogFront*> open;
  /// Those that are open, for signal handlers, which take no lock; those beyond do without last words.
  std::array<std::atomic<LogFront*>, 32> for_signals{};

  void show_to_signals() noexcept {
    for (std::size_t i = 0; i < for_signals.size(); ++i)
      for_signals[i].store(i < open.size() ? open[i] : nullptr, std::memory_order_release);
  }
  /// The free calls go to the only executor there is.
  void choose() noexcept {
    if (attached.load(std::memory_order_relaxed)) return;
    LogFront* const only = open.size() == 1 ? open.front() : nullptr;
    process_log.front.store(only, std::memory_order_release);
    process_log.levels.store(only != nullptr ? &only->control().levels : &stderr_word,
                             std::memory_order_release);
  }
};
constinit LocalFronts* local_fronts_of_process = nullptr;
LocalFronts& local_fronts() {
  static auto* const fronts = local_fronts_of_process = new LocalFronts;
  return *fronts;
}

void forget_fronts() noexcept {
  process_log.front.store(nullptr, std::memory_order_relaxed);
  process_log.levels.store(&stderr_word, std::memory_order_relaxed);
  thread_lane.front = &ThreadLane::no_front;
  thread_lane.lane = nullptr;
  attached.store(false, std::memory_order_relaxed);
  process_log.task.id.store(0, std::memory_order_relaxed);
  if (local_fronts_of_process != nullptr) {
    local_fronts_of_process->lock.reset();
    local_fronts_of_process->open.clear();
    local_fronts_of_process->show_to_signals();
    local_fronts_of_process->idle.clear();  // threads of the parent own their lanes
  }
}

struct Beginning {
  Beginning() noexcept {
    call_in_forked_child(forget_fronts);
    stderr_word.store(static_cast<std::uint32_t>(stderr_levels().level), std::memory_order_relaxed);
  }
};
const Beginning beginning;

}  // namespace

constinit ProcessLog process_log{.front = nullptr, .levels = &stderr_word, .task = {}, .task_lane = {}};

const LevelSettings& stderr_levels() noexcept {
  static const auto* const settings = new LevelSettings{settings_of_environment()};
  return *settings;
}

LogFront::LogFront(std::span<std::byte> area, bool attribute_tasks) noexcept
    : area_{area},
      shape_{*reinterpret_cast<const LogControl*>(area.data())},
      serial_{last_serial.fetch_add(1, std::memory_order_relaxed) + 1},
      generation_{fork_generation()},
      attribute_tasks_{attribute_tasks},
      full_fence_{!register_light_side()} {}

void LogFront::open(const ContextLife* life, const SharedBell& bell, CollectorLink link) noexcept {
  {
    const std::lock_guard hold{link_lock_};
    bell_.store(&bell, std::memory_order_release);
    link_ = link;
  }
  const std::lock_guard hold{lock_};
  for (LaneState* const lane : lanes_) {
    if (lane != nullptr) lane->closed.store(lane_reopened, std::memory_order_release);
  }
  collector_started_.store(false, std::memory_order_relaxed);
  owner_.store(life, std::memory_order_release);
  open_.store(true, std::memory_order_release);
}

void LogFront::close(std::chrono::milliseconds limit) noexcept {
  owner_.store(nullptr, std::memory_order_release);
  {
    const std::lock_guard hold{lock_};
    open_.store(false, std::memory_order_release);
    for (LaneState* const lane : lanes_) {
      if (lane != nullptr) lane->closed.store(lane_closed, std::memory_order_seq_cst);
    }
  }
  // Order: pairs with the load of `closed` after `enter`: a thread that entered before the barrier is seen
  // here, one that enters later sees `closed`.
  heavy_barrier();
  const auto until = std::chrono::steady_clock::now() + limit;
  const auto somebody_is_inside = [this] {
    for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
      if ((lines(lane).published.load(std::memory_order_acquire) & 1U) != 0) return true;
    }
    return false;
  };
  while (somebody_is_inside() && std::chrono::steady_clock::now() < until) yield_cpu();
  const std::lock_guard hold{link_lock_};
  bell_.store(nullptr, std::memory_order_release);
  link_ = {};
}

LaneState* LogFront::make_lane(std::uint32_t index) noexcept {
  if (lanes_[index] == nullptr) {
    LaneState* const lane = index == 0 && is_of_worker() ? std::construct_at(&process_log.task_lane)
                                                         : new (std::nothrow) LaneState;
    if (lane == nullptr) return nullptr;
    const auto room = area_.subspan(shape_.room_offset(index), shape_.room_bytes(index));
    lane->ring = LaneWriter<>{room, lines(index), shape_.overwrites(index), full_fence_};
    static constexpr std::atomic<std::uint64_t> no_task{0};
    lane->task_serial = attribute_tasks_ ? &process_log.task.serial : &no_task;
    lane->collector = &control().collector;
    lane->front = this;
    lanes_[index] = lane;
    // Set before the lane's first record: the collector looks only at lanes whose bit is set (see
    // order_and_watermark.md).
    control().lanes_in_use.fetch_or(std::uint64_t{1} << index, std::memory_order_seq_cst);
  }
  return lanes_[index];
}

void LogFront::set_flush(Level level, std::chrono::milliseconds limit) noexcept {
  flush_level_.store(level, std::memory_order_relaxed);
  flush_limit_ms_.store(limit.count(), std::memory_order_relaxed);
}

bool LogFront::flush_now() noexcept {
  using Clock = std::chrono::steady_clock;
  if (!collector_started_.load(std::memory_order_acquire)) return true;  // nothing was logged
  const auto number = flushes_asked_.fetch_add(1, std::memory_order_seq_cst) + 1;
  if (const SharedBell* const bell = bell_.load(std::memory_order_acquire)) bell->ring();
  const auto until =
      Clock::now() + std::chrono::milliseconds{flush_limit_ms_.load(std::memory_order_relaxed)};
  for (;;) {
    const auto done = flushes_done_.load(std::memory_order_acquire);
    // Numbers go round: what is not behind is done.
    if (static_cast<std::int32_t>(done - number) >= 0 || !is_open()) return true;
    const auto now = Clock::now();
    if (now >= until) return false;
    static_cast<void>(futex_wait(flushes_done_, done, std::min(until, now + std::chrono::milliseconds{100})));
  }
}

void LogFront::flushed(std::uint32_t number) noexcept {
  flushes_done_.store(number, std::memory_order_release);
  futex_wake(flushes_done_, 1 << 20);
}

/// The lane's own thread: are its records to be followed by a flush?
void LogFront::watch_flushes(LaneState& lane) const noexcept {
  lane.flushes = !is_of_worker() && flush_level() != Level::off;
  if (lane.flushes) lane.ring.make_careful();
}

LaneState* LogFront::take_lane() noexcept {
  const std::lock_guard hold{lock_};
  if (!is_open()) return nullptr;
  for (std::uint32_t index = 0; index < shape_.shared_lane(); ++index) {
    if (taken_[index]) continue;
    LaneState* const lane = make_lane(index);
    if (lane == nullptr) return nullptr;
    taken_[index] = true;
    lane->ring.make_stale();
    watch_flushes(*lane);
    lane->sequence = 0;
    lane->thread = thread_id();
    return lane;
  }
  return nullptr;
}

void LogFront::give_back_lane(LaneState& lane) noexcept {
  const std::lock_guard hold{lock_};
  for (std::uint32_t index = 0; index < shape_.shared_lane(); ++index) {
    if (lanes_[index] == &lane) taken_[index] = false;
  }
}

LaneState* LogFront::lock_shared_lane() noexcept {
  shared_lock_.lock();
  LaneState* lane;
  {
    const std::lock_guard hold{lock_};
    lane = is_open() ? make_lane(shape_.shared_lane()) : nullptr;
  }
  if (lane == nullptr)
    shared_lock_.unlock();
  else {
    lane->shared = true;
    watch_flushes(*lane);
  }
  return lane;
}

void LogFront::unlock_shared_lane(LaneState&) noexcept { shared_lock_.unlock(); }

bool LogFront::reopened(LaneState& lane) noexcept {
  std::uint8_t seen = lane_reopened;
  if (!lane.closed.compare_exchange_strong(seen, 0, std::memory_order_acq_rel)) return false;
  lane.ring.make_stale();
  watch_flushes(lane);
  lane.task_announced = LaneState::nothing_announced;
  lane.scope_announced = LaneState::nothing_announced;
  for (auto& binding : lane.bindings) binding = 0;
  lane.gave_up = false;
  lane.gap_announced = lane.ring.dropped();
  return true;
}

std::uint32_t LogFront::find_site(const SiteKey& key, const SiteFacts& facts) noexcept {
  try {
    const std::lock_guard hold{lock_};
    if (const auto known = sites_.find(key); known != sites_.end()) return known->second;
    KINDRED_INJECTION_POINT("log.site.unknown");
    std::vector<std::byte> bytes;
    encode_site(bytes, facts);
    auto& used = control().site_bytes_used;
    const auto at = used.load(std::memory_order_relaxed);
    std::uint32_t id = record_site::inlined;
    if (shape_.site_bytes - at >= bytes.size()) {
      std::memcpy(area_.data() + shape_.sites_offset() + at, bytes.data(), bytes.size());
      KINDRED_INJECTION_POINT("log.site.before_commit");
      // Order: release: a record with this id is committed later, so a reader that sees the record sees the
      // site. Crash: before this store the site does not exist, and no record names it.
      used.store(at + bytes.size(), std::memory_order_release);
      KINDRED_INJECTION_POINT("log.site.committed");
      id = site_count_++;
    }
    sites_.emplace(key, id);
    return id;
  } catch (const std::bad_alloc&) {
    return record_site::inlined;  // which will not find memory either, and is counted as dropped
  }
}

void LogFront::ring() noexcept {
  auto& word = control().collector;
  auto state = word.load(std::memory_order_relaxed);
  const std::lock_guard hold{link_lock_};
  if (state == static_cast<std::uint32_t>(CollectorState::absent)) {
    if (link_.start != nullptr) link_.start(link_.collector);
    return;
  }
  // One ring a sleep is enough. Crash: between the exchange and the ring the wake-up is lost, and this
  // process with it: its end rings too.
  if (state == static_cast<std::uint32_t>(CollectorState::awake) ||
      !word.compare_exchange_strong(state, static_cast<std::uint32_t>(CollectorState::awake),
                                    std::memory_order_relaxed)) {
    return;
  }
  if (const SharedBell* const bell = bell_.load(std::memory_order_relaxed)) bell->ring();
}

void LogFront::write_raw(Level level, std::string_view text) noexcept {
  const auto index = shape_.raw_lane();
  if (!raw_lock_.try_lock()) {  // this very thread, interrupted by another signal, may hold it
    control().raw_lost.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  // Made by `attach_log`; in the parent, where that is not so, there is no raw lane, because making it is not
  // safe here.
  if (LaneState* const lane = lanes_[index]; lane != nullptr) {
    constexpr std::size_t head = record_head_bytes + 2 * sizeof(std::uint32_t);
    text = text.substr(0, lane->ring.largest() - head);
    const std::size_t bytes = round_to_record(head + text.size());
    if (std::byte* const at = lane->ring.reserve(bytes); at != nullptr) {
      const auto now = lane->ring.enter();
      const std::uint32_t words[2] = {static_cast<std::uint32_t>(bytes), record_site::raw};
      const std::uint32_t facts[2] = {
          static_cast<std::uint32_t>(level) | static_cast<std::uint32_t>(bytes - head - text.size()) << 8U,
          thread_id()};
      std::memcpy(at, words, sizeof words);
      std::memcpy(at + sizeof words, &now, sizeof now);
      std::memcpy(at + record_head_bytes, facts, sizeof facts);
      std::memcpy(at + head, text.data(), text.size());
      lane->ring.commit(bytes);
    } else {
      lane->ring.count_dropped(1);
    }
  }
  raw_lock_.unlock();
  // Without `ring`: its lock is not for signal handlers. More than one ring does no harm.
  if (control().collector.load(std::memory_order_seq_cst) !=
      static_cast<std::uint32_t>(CollectorState::awake)) {
    if (const SharedBell* const bell = bell_.load(std::memory_order_acquire)) bell->ring();
  }
}

bool LogFront::make_raw_lane() noexcept {
  const std::lock_guard hold{lock_};
  return make_lane(shape_.raw_lane()) != nullptr;
}

LogFront& open_local_front(const LogOptions& options, const ContextLife* life, const SharedBell& bell,
                           CollectorLink link) {
  LocalFronts& fronts = local_fronts();
  const LogAreaShape shape{options};
  const std::lock_guard hold{fronts.lock};
  LogFront* front = nullptr;
  for (auto candidate = fronts.idle.begin(); candidate != fronts.idle.end(); ++candidate) {
    if (!(*candidate)->inherited() && (*candidate)->shape() == shape) {
      front = *candidate;
      fronts.idle.erase(candidate);
      break;
    }
  }
  fronts.open.reserve(fronts.open.size() + 1);
  fronts.idle.reserve(fronts.idle.size() + fronts.open.size() + 1);
  if (front == nullptr) {
    // Large, so that it comes fresh from the kernel and costs memory only where it is used.
    void* const memory = std::calloc(shape.total_bytes() + 4096, 1);
    if (memory == nullptr) throw std::bad_alloc{};
    auto address = reinterpret_cast<std::uintptr_t>(memory);
    address = (address + 4095) / 4096 * 4096;
    const std::span area{reinterpret_cast<std::byte*>(address), shape.total_bytes()};
    format_log_area(area, options);
    front = new LogFront{area, false};
    static_cast<void>(front->make_raw_lane());
  }
  front->control().block_limit_ms = static_cast<std::uint32_t>(options.block_limit.count());
  front->control().collector.store(static_cast<std::uint32_t>(CollectorState::absent),
                                   std::memory_order_relaxed);
  front->open(life, bell, link);
  front->set_flush(options.flush_on.value_or(Level::off), options.flush_limit);
  fronts.open.push_back(front);
  fronts.show_to_signals();
  fronts.choose();
  return *front;
}

void close_local_front(LogFront& front, std::chrono::milliseconds limit) noexcept {
  LocalFronts& fronts = local_fronts();
  {
    const std::lock_guard hold{fronts.lock};
    std::erase(fronts.open, &front);
    fronts.show_to_signals();
    fronts.choose();
  }
  front.close(limit);
}

void keep_local_front(LogFront& front) noexcept {
  LocalFronts& fronts = local_fronts();
  const std::lock_guard hold{fronts.lock};
  fronts.idle.push_back(&front);  // room was reserved when it was opened
}

void attach_log(std::span<std::byte> area, SharedBell bell, const LogIdentity&) {
  forget_fronts();
  static const SharedBell* bell_of_process;
  bell_of_process = new SharedBell{std::move(bell)};  // lives as long as the process: static destructors log
  auto* const front = new LogFront{area, true};
  front->open(nullptr, *bell_of_process, {});
  static_cast<void>(front->make_raw_lane());
  attached.store(true, std::memory_order_relaxed);
  process_log.front.store(front, std::memory_order_release);
  process_log.levels.store(&front->control().levels, std::memory_order_release);
  static_cast<void>(find_lane(*front));  // lane 0 is for this thread
  if (fork_generation() != first_generation) forget_spdlog_threads();
}

void flush_local_fronts(bool for_good) noexcept {
  LocalFronts* const fronts = local_fronts_of_process;
  if (fronts == nullptr) return;
  for (const auto& shown : fronts->for_signals) {
    LogFront* const front = shown.load(std::memory_order_acquire);
    if (front == nullptr || front->inherited()) continue;
    static_cast<void>(front->flush_now());
    if (!for_good) continue;
    // What destructors of static objects log from here on is followed by no flush.
    front->set_flush(Level::trace, front->flush_limit());
    if (thread_lane.front == front && thread_lane.lane != nullptr) {
      thread_lane.lane->flushes = true;
      thread_lane.lane->ring.make_careful();
    }
  }
}

void flush_at_exit() {
  static const bool registered = [] {
    const auto flush = [] { flush_local_fronts(true); };
    return std::atexit(flush) == 0 && std::at_quick_exit(flush) == 0;
  }();
  static_cast<void>(registered);  // where there is no room for it, the program ends as it did without
}

namespace {

std::terminate_handler terminate_before = nullptr;
constinit std::atomic<bool> said{false};

void on_terminate() noexcept {
  if (!said.exchange(true)) {
    if (const auto exception = std::current_exception(); exception != nullptr)
      log_exception(Level::critical, exception, "the program ends by an exception that nobody catches");
    else
      log_critical("the program ends by std::terminate");
    flush_local_fronts(false);
  }
  if (terminate_before != nullptr) terminate_before();
  std::abort();
}

void on_fatal_signal(int signal) noexcept {
  if (!said.exchange(true)) {
    char words[64] = "the program is ended by ";
    std::strcat(words, fatal_signal_name(signal));
    // Into each log of this process: which of them is read is not known here.
    LocalFronts* const fronts = local_fronts_of_process;
    for (std::size_t i = 0; fronts != nullptr && i < fronts->for_signals.size(); ++i) {
      LogFront* const front = fronts->for_signals[i].load(std::memory_order_acquire);
      if (front != nullptr) front->write_raw(Level::critical, words);
    }
  }
  flush_local_fronts(false);
}

}  // namespace

void speak_last_words() {
  static const bool set = [] {
    terminate_before = std::set_terminate(on_terminate);
    call_before_fatal_signals(on_fatal_signal);
    return true;
  }();
  static_cast<void>(set);
}

void detach_log() noexcept { forget_fronts(); }

bool binding_enabled(LogFront* front, const Binding& binding, Level level) noexcept {
  if (level >= Level::off) return false;
  if (front == nullptr) return level >= stderr_levels().level_of(binding.name);
  const LogControl& control = front->control();
  const NamedLevels& named = front->named_levels();
  std::uint32_t word = control.levels.load(std::memory_order_acquire);
  const auto stamp = [front](std::uint32_t levels) {
    return std::uint64_t{front->serial()} << 32U | (levels & ~std::uint32_t{0x1ff});
  };
  const auto seen = binding.level_seen.load(std::memory_order_relaxed);
  if ((seen & ~std::uint64_t{0xff}) == stamp(word))
    return level_passes(static_cast<std::uint32_t>(seen), level);
  for (int attempt = 0; attempt < 64; ++attempt, word = control.levels.load(std::memory_order_acquire)) {
    if ((word & levels_busy) != 0) {
      yield_cpu();
      continue;
    }
    auto found = static_cast<std::uint8_t>(word);
    std::size_t longest = 0;
    const auto count =
        std::min<std::size_t>(named.count.load(std::memory_order_acquire), NamedLevels::max_names);
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t words[8];
      for (std::size_t w = 0; w < 8; ++w) words[w] = named.each[i].words[w].load(std::memory_order_acquire);
      char text[sizeof words];
      std::memcpy(text, words, sizeof words);
      const std::string_view name{
          text + 2, std::min<std::size_t>(static_cast<unsigned char>(text[0]), NamedLevel::longest_name)};
      if (name.size() >= longest && logger_is_below(binding.name, name)) {
        longest = name.size();
        found = static_cast<std::uint8_t>(text[1]);
      }
    }
    // Order: acquire above: had we read anything of a newer table, its `busy` word would be seen here.
    if (control.levels.load(std::memory_order_acquire) != word) continue;
    binding.level_seen.store(stamp(word) | found, std::memory_order_relaxed);
    return level_passes(found, level);
  }
  return level_passes(word, level);
}

}  // namespace kindred::internal

namespace kindred {

void log_from_signal(Level level, std::string_view text) noexcept {
  using namespace internal;
  if (!level_passes(process_log.levels.load(std::memory_order_relaxed)->load(std::memory_order_relaxed),
                    level))
    return;
  if (LogFront* const front = process_log.front.load(std::memory_order_acquire))
    return front->write_raw(level, text);
  write_raw_to_stderr(text);
}

}  // namespace kindred

#include "pool_set.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include <fmt/format.h>

namespace kindred::view {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using internal::DoorName;
using internal::DoorPool;
using internal::TailRequest;

constexpr std::size_t max_pools = 64;  // each costs two threads, one here and one in the pool
constexpr std::size_t max_ended = 8;
constexpr auto search_pause = 500ms;
constexpr auto look_for_stop = 250ms;
constexpr int deepest_chain = 64;

bool is_below(std::uint32_t pid, std::uint32_t ancestor) {
  for (int i = 0; i < deepest_chain && pid > 1; ++i) {
    pid = parent_of(pid);
    if (pid == ancestor) return true;
  }
  return false;
}

}  // namespace

std::uint32_t parent_of(std::uint32_t pid) {
  std::ifstream file{fmt::format("/proc/{}/status", pid)};
  for (std::string word; file >> word;) {
    if (word != "PPid:") continue;
    std::uint32_t parent = 0;
    file >> parent;
    return parent;
  }
  return 0;
}

PoolSet::PoolSet(tools::PoolChoice choice, std::chrono::milliseconds every)
    : choice_{std::move(choice)}, every_{every} {
  look_for_pools();
  finder_ = std::thread{[this] { find(); }};
}

PoolSet::~PoolSet() {
  {
    const std::scoped_lock lock{lock_};
    stop_ = true;
    changed_.notify_all();
  }
  finder_.join();
  for (auto& [key, pool] : pools_) pool->thread.join();
}

bool PoolSet::wanted(std::uint32_t pid, const std::string& serial) const {
  if (!choice_.pid) return true;
  if (pid == *choice_.pid) return choice_.serial.empty() || serial == choice_.serial;
  return choice_.serial.empty() && is_below(pid, *choice_.pid);
}

void PoolSet::find() {
  for (;;) {
    {
      std::unique_lock lock{lock_};
      changed_.wait_for(lock, search_pause, [&] { return stop_; });
      if (stop_) return;
    }
    look_for_pools();
  }
}

void PoolSet::look_for_pools() {
  const auto names = internal::door_names();
  std::set<std::string> there;
  for (const auto& name : names) {
    there.insert(name.name);
    {
      const std::scoped_lock lock{lock_};
      if (refused_.contains(name.name) || pools_.size() >= max_pools) continue;
      const bool known = std::ranges::any_of(pools_, [&](const auto& pool) {
        return pool.second->name.name == name.name && !pool.second->ended;
      });
      if (known) continue;
    }
    auto connection = internal::connect_to_pool(name, Clock::now() + 1s);
    const bool good = connection && wanted(connection->pid, connection->serial);
    const std::scoped_lock lock{lock_};
    if (!good) {
      if (connection) refused_.insert(name.name);
      continue;
    }
    auto pool = std::make_shared<Followed>();
    pool->name = name;
    pool->pid = connection->pid;
    pool->key = fmt::format("{}/{}", connection->pid, connection->serial);
    if (const auto old = pools_.find(pool->key); old != pools_.end()) {
      if (!old->second->ended) continue;
      old->second->thread.join();
    }
    pools_[pool->key] = pool;
    pool->thread =
        std::thread{[this, pool, its = std::move(*connection)]() mutable { follow(pool, std::move(its)); }};
    set_parents();
  }
  forget_ended();
  const std::scoped_lock lock{lock_};
  std::erase_if(refused_, [&](const std::string& name) { return !there.contains(name); });
}

void PoolSet::forget_ended() {
  std::vector<std::shared_ptr<Followed>> gone;
  {
    const std::scoped_lock lock{lock_};
    for (const auto& [key, pool] : pools_) {
      if (pool->ended && pool->ended_as + max_ended <= ended_) gone.push_back(pool);
    }
    for (const auto& pool : gone) pools_.erase(pool->key);
    if (!gone.empty()) set_parents();
    if (!gone.empty()) ++version_;
  }
  for (const auto& pool : gone) pool->thread.join();  // it takes the lock once more, at its end
}

void PoolSet::set_parents() {
  for (auto& [key, pool] : pools_) {
    pool->parent.clear();
    std::uint32_t pid = pool->pid;
    for (int i = 0; i < deepest_chain && pid > 1 && pool->parent.empty(); ++i) {
      pid = parent_of(pid);
      for (const auto& [other_key, other] : pools_) {
        if (other->pid == pid) pool->parent = other_key;
      }
    }
  }
}

void PoolSet::follow(const std::shared_ptr<Followed>& pool, DoorPool connection) {
  TailRequest request;
  request.ask = "pool";
  request.others.push_back({"every_ms", std::int64_t{every_.count()}});
  internal::ask_pool(connection, request);
  internal::PoolAnswers answers{connection.socket};
  const auto stopped = [&] {
    const std::scoped_lock lock{lock_};
    return stop_;
  };
  // Without an answer for this long the pool's process is stopped, or the pool is gone in some other way.
  bool over = false;
  while (!over && !stopped()) {
    const auto until = Clock::now() + look_for_stop;
    const auto line = answers.next(until);
    if (!line) {
      over = Clock::now() < until;  // not the deadline: the connection has ended
      continue;
    }
    const std::scoped_lock lock{lock_};
    if (line->starts_with('{')) {
      pool->latest = *line;
      ++version_;
    } else {
      over = true;
    }
    changed_.notify_all();
  }
  const std::scoped_lock lock{lock_};
  pool->ended = true;
  pool->ended_as = ended_++;
  ++version_;
  changed_.notify_all();
}

PoolSet::Snapshot PoolSet::next(std::uint64_t version, std::chrono::milliseconds patience) {
  std::unique_lock lock{lock_};
  changed_.wait_for(lock, patience, [&] { return stop_ || version_ > version; });
  Snapshot snapshot;
  snapshot.version = version_;
  snapshot.json = "{\"pools\":[";
  bool first = true;
  for (const auto& [key, pool] : pools_) {
    if (pool->latest.empty()) continue;
    snapshot.json += fmt::format(R"({}{{"key":"{}","parent":"{}","ended":{},"view":)", first ? "" : ",", key,
                                 pool->parent, pool->ended);
    snapshot.json += pool->latest;
    snapshot.json += '}';
    first = false;
  }
  snapshot.json += "]}";
  return snapshot;
}

std::size_t PoolSet::live() const { return live_keys().size(); }

bool PoolSet::ever_found() const {
  const std::scoped_lock lock{lock_};
  return !pools_.empty();
}

std::optional<std::string> PoolSet::latest(std::string_view key) const {
  const std::scoped_lock lock{lock_};
  const auto found = pools_.find(std::string{key});
  if (found == pools_.end() || found->second->latest.empty()) return std::nullopt;
  return found->second->latest;
}

std::optional<DoorPool> PoolSet::connect(std::string_view key) const {
  DoorName name;
  {
    const std::scoped_lock lock{lock_};
    const auto found = pools_.find(std::string{key});
    if (found == pools_.end() || found->second->ended) return std::nullopt;
    name = found->second->name;
  }
  return internal::connect_to_pool(name, Clock::now() + 1s);
}

std::vector<std::string> PoolSet::live_keys() const {
  const std::scoped_lock lock{lock_};
  std::vector<std::string> keys;
  for (const auto& [key, pool] : pools_) {
    if (!pool->ended) keys.push_back(key);
  }
  return keys;
}

}  // namespace kindred::view

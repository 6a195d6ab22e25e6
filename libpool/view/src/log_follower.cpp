#include "log_follower.hpp"

#include <chrono>
#include <ctime>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <boost/json.hpp>

#include "view_text.hpp"

namespace kindred::view {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using internal::PoolAnswers;
using internal::TailRequest;
namespace json = boost::json;

constexpr std::size_t lines_kept = 2000;
constexpr std::uint64_t lines_first = 200;
constexpr auto look_for_stop = 200ms;
constexpr auto patience = 3s;

std::string shown_member(const json::value& text) { return shown(std::string_view{text.as_string()}); }

std::string clock_of(const json::value& record) {
  const double at = record.at("time").at("timestamp").to_number<double>();
  const auto whole = static_cast<std::time_t>(at);
  return fmt::format("{:%H:%M:%S}.{:03}", fmt::localtime(whole),
                     static_cast<int>((at - static_cast<double>(whole)) * 1e3));
}

std::string who_of(const json::object& record) {
  const auto* const worker = record.if_contains("worker");
  std::string who = worker != nullptr && worker->is_number() && worker->to_number<int>() >= 0
                        ? fmt::format("w{}", worker->to_number<int>())
                        : "parent";
  const auto* const task = record.if_contains("task");
  if (task != nullptr && task->is_object())
    who += fmt::format(" {}#{}", shown_member(task->at("name")), task->at("id").to_number<std::uint64_t>());
  return who;
}

}  // namespace

std::string record_as_line(std::string_view text) {
  try {
    const json::value parsed = json::parse({text.data(), text.size()});
    const json::value& record = parsed.at("record");
    return fmt::format("{} {:<8} {}  {}", clock_of(record), shown_member(record.at("level").at("name")),
                       who_of(record.as_object()), shown_member(record.at("message")));
  } catch (const std::exception&) {
    return shown(text);  // from a pool of another version: as it came
  }
}

std::vector<std::string> kept_records(const internal::DoorPool& pool, std::uint64_t count) {
  TailRequest request;
  request.follow = false;
  request.last = count;
  internal::ask_pool(pool, request);
  PoolAnswers answers{pool.socket};
  std::vector<std::string> records;
  const auto until = Clock::now() + patience;
  while (const auto line = answers.next(until)) {
    if (line->starts_with('{')) records.emplace_back(*line);
    if (line->starts_with(internal::tail_answer::done) || line->starts_with(internal::tail_answer::end))
      break;
  }
  return records;
}

LogFollower::LogFollower(internal::DoorPool pool, Level level) : pool_{std::move(pool)} {
  TailRequest request;
  request.level = level;
  request.last = lines_first;
  internal::ask_pool(pool_, request);
  thread_ = std::thread{[this] { run(); }};
}

LogFollower::~LogFollower() {
  stop_.store(true);
  thread_.join();
}

void LogFollower::run() {
  PoolAnswers answers{pool_.socket};
  while (!stop_.load()) {
    const auto until = Clock::now() + look_for_stop;
    const auto line = answers.next(until);
    if (!line) {
      if (Clock::now() >= until) continue;
      return keep("the pool has ended");
    }
    if (line->starts_with('{')) {
      keep(record_as_line(*line));
    } else if (line->starts_with(internal::tail_answer::lost)) {
      keep(fmt::format("{} records were lost here: this terminal was slower than the log",
                       line->size() > 2 ? shown(line->substr(2)) : "some"));
    } else if (line->starts_with(internal::tail_answer::refused)) {
      return keep(shown(line->substr(std::min<std::size_t>(2, line->size()))));
    } else if (line->starts_with(internal::tail_answer::end)) {
      return keep("the pool has ended");
    }
  }
}

void LogFollower::keep(std::string line) {
  const std::scoped_lock lock{lock_};
  lines_.push_back(std::move(line));
  if (lines_.size() > lines_kept) lines_.pop_front();
}

std::vector<std::string> LogFollower::lines() const {
  const std::scoped_lock lock{lock_};
  return {lines_.begin(), lines_.end()};
}

}  // namespace kindred::view

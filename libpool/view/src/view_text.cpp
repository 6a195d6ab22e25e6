#include "view_text.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace kindred::view {
namespace {

namespace json = boost::json;

constexpr std::size_t names_shown = 5;
constexpr std::size_t deaths_shown = 3;

std::string bytes_as_text(double bytes) {
  constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, units[unit]);
}

double number(const json::value& object, std::string_view key) { return object.at(key).to_number<double>(); }

/// Returns the shortest time below which `share` of the durations lie that were counted between two looks.
double percentile(const json::value& now, const json::value* before, double share) {
  std::map<double, double> counts;
  for (const auto& bucket : now.at("buckets").as_array())
    counts[bucket.at(0).to_number<double>()] += bucket.at(1).to_number<double>();
  if (before != nullptr) {
    for (const auto& bucket : before->at("buckets").as_array())
      counts[bucket.at(0).to_number<double>()] -= bucket.at(1).to_number<double>();
  }
  double all = 0;
  for (const auto& [end, count] : counts) all += count;
  double under = 0;
  for (const auto& [end, count] : counts) {
    if (end < 0) continue;
    under += count;
    if (all > 0 && under >= share * all) return end;
  }
  return 0;
}

std::string shown_member(const json::value& text) { return shown(std::string_view{text.as_string()}); }

}  // namespace

std::string seconds_as_text(double seconds) {
  if (seconds < 1e-6) return fmt::format("{:.0f} ns", seconds * 1e9);
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string shown(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::vector<std::string> ViewText::lines(const std::string& text) {
  Json all = json::parse(text);
  std::vector<std::string> out;
  for (const auto& pool : all.at("pools").as_array()) {
    const Json* before = nullptr;
    if (before_.is_object()) {
      for (const auto& old : before_.at("pools").as_array()) {
        if (old.at("key") == pool.at("key") && old.at("view").at("now") != pool.at("view").at("now"))
          before = &old.at("view");
      }
    }
    put_pool(out, pool, before);
  }
  if (!before_.is_object() || json::serialize(all.at("pools")) != json::serialize(before_.at("pools")))
    before_ = std::move(all);
  return out;
}

void ViewText::put_pool(std::vector<std::string>& out, const Json& pool, const Json* before) {
  const auto& view = pool.at("view");
  const auto& totals = view.at("totals");
  const std::string key{pool.at("key").as_string()};
  const auto percentiles = [&](std::string_view which) {
    const Json* const old = before != nullptr ? &before->at(which) : nullptr;
    return std::pair{percentile(view.at(which), old, 0.5), percentile(view.at(which), old, 0.99)};
  };
  std::string rate;
  if (before != nullptr || !run_.contains(key)) {  // at the first look: of all that was counted so far
    run_[key] = percentiles("run_time");
    queue_[key] = percentiles("queue_time");
  }
  if (before != nullptr) {
    const double passed = number(view, "now") - number(*before, "now");
    rates_[key] = (number(totals, "done") - number(before->at("totals"), "done")) / std::max(passed, 1e-3);
  }
  if (rates_.contains(key)) rate = fmt::format(" ({:.0f}/s)", rates_[key]);
  const auto& parent = pool.at("parent").as_string();
  std::string state;
  if (pool.at("ended").as_bool()) state = "  ENDED";
  if (!view.at("broken").as_string().empty()) state = "  BROKEN: " + shown_member(view.at("broken"));
  out.push_back(fmt::format("pool {}{}  {}  {}  up {}{}", key,
                            parent.empty() ? std::string{} : " in a worker of " + std::string{parent},
                            shown_member(view.at("start_method")), shown_member(view.at("program")),
                            seconds_as_text(number(view, "now") - number(view, "since")), state));
  out.push_back(
      fmt::format("  tasks: {:.0f} waiting, {:.0f} running, {:.0f} done{}, {:.0f} failed, "
                  "{:.0f} lost, {:.0f} cancelled",
                  number(totals, "pending"), number(totals, "running"), number(totals, "done"), rate,
                  number(totals, "failed"), number(totals, "lost"), number(totals, "cancelled")));
  out.push_back(fmt::format(
      "  run time p50 {} p99 {}   queue time p50 {} p99 {}   memory {}   log {:.0f} "
      "records, {:.0f} dropped",
      seconds_as_text(run_[key].first), seconds_as_text(run_[key].second), seconds_as_text(queue_[key].first),
      seconds_as_text(queue_[key].second), bytes_as_text(number(totals, "rss_bytes")),
      number(view.at("log"), "committed"), number(view.at("log"), "dropped")));
  put_workers(out, view, before);
  put_names(out, view);
  put_deaths(out, view);
  out.push_back({});
}

void ViewText::put_workers(std::vector<std::string>& out, const Json& view, const Json* before) const {
  out.push_back("  WORKER      PID  STATE            DONE  FAILED  LOST  RESTARTS   CPU     MEMORY  TASK");
  const auto& workers = view.at("workers").as_array();
  for (std::size_t i = 0; i < workers.size(); ++i) {
    const auto& worker = workers[i];
    double cpu = 0;
    if (before != nullptr && i < before->at("workers").as_array().size()) {
      const auto& old = before->at("workers").as_array()[i];
      const double passed = number(view, "now") - number(*before, "now");
      if (old.at("pid") == worker.at("pid") && passed > 0)
        cpu = (number(worker, "cpu_seconds") - number(old, "cpu_seconds")) / passed;
    }
    std::string task;
    if (number(worker, "task") != 0) {
      task = fmt::format("{} #{:.0f} {}", shown_member(worker.at("task_name")), number(worker, "task"),
                         seconds_as_text(number(worker, "running_seconds")));
    }
    out.push_back(
        fmt::format("  {:>6.0f} {:>8.0f}  {:<12} {:>8.0f} {:>7.0f} {:>5.0f} {:>9.0f} {:>4.0f} % {:>10}  {}",
                    number(worker, "index"), number(worker, "pid"), shown_member(worker.at("state")),
                    number(worker, "done"), number(worker, "failed"), number(worker, "lost"),
                    number(worker, "restarts"), cpu * 100, bytes_as_text(number(worker, "rss_bytes")), task));
  }
}

/// The tasks that took most of the workers' time.
void ViewText::put_names(std::vector<std::string>& out, const Json& view) const {
  std::vector<const Json*> names;
  for (const auto& name : view.at("names").as_array()) names.push_back(&name);
  if (names.empty()) return;
  std::ranges::sort(names, [](const Json* a, const Json* b) {
    const double left = number(*a, "run_seconds"), right = number(*b, "run_seconds");
    return left != right ? left > right : a->at("name").as_string() < b->at("name").as_string();
  });
  out.push_back("  ENDED  FAILED  LOST       MEAN    LONGEST     IN ALL  TASKS OF THE NAME");
  for (std::size_t i = 0; i < std::min(names.size(), names_shown); ++i) {
    const Json& name = *names[i];
    const double ended = number(name, "ended");
    out.push_back(fmt::format("{:>7.0f} {:>7.0f} {:>5.0f} {:>10} {:>10} {:>10}  {}", ended,
                              number(name, "failed"), number(name, "lost"),
                              seconds_as_text(ended > 0 ? number(name, "run_seconds") / ended : 0),
                              seconds_as_text(number(name, "longest_seconds")),
                              seconds_as_text(number(name, "run_seconds")), shown_member(name.at("name"))));
  }
  if (names.size() > names_shown)
    out.push_back(fmt::format("  and {} further names", names.size() - names_shown));
}

void ViewText::put_deaths(std::vector<std::string>& out, const Json& view) const {
  const auto& deaths = view.at("deaths").as_array();
  for (std::size_t i = deaths.size() - std::min(deaths.size(), deaths_shown); i < deaths.size(); ++i) {
    out.push_back(fmt::format("  worker {:.0f} (pid {:.0f}) {}{}", number(deaths[i], "worker"),
                              number(deaths[i], "pid"), shown_member(deaths[i].at("reason")),
                              deaths[i].at("task_name").as_string().empty()
                                  ? std::string{}
                                  : " while running '" + shown_member(deaths[i].at("task_name")) + "'"));
  }
}

}  // namespace kindred::view

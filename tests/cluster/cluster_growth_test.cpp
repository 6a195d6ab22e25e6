// ctest: TIMEOUT 900
#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "cluster/world.hpp"
#include "support/test.hpp"

// What a head spends for each task, in time and memory, with a thousand nodes and ever more open tasks. The
// engine is one that answers at once, and the nodes are the packets that they would send: so nothing but the
// head is measured.
using namespace kindred;
using namespace kindred::test;

namespace {

/// Has everything that is asked for, and stores nothing: each put is confirmed.
class ReadyEngine final : public Engine {
 public:
  std::vector<Answer> answers;
  Ticket results = 0;
  std::uint64_t stored = 0;
  Epoch epoch = 0;
  std::vector<Assignment> assignments;

  void ensure(Ticket ticket, const Stream&, const StreamLimits&) override { done(ticket, 0, "1"); }
  void ensure(Ticket ticket, const Queue&, Time) override { done(ticket, 0, {}); }
  void state(Ticket ticket, const Stream&) override { done(ticket, stored, "1"); }
  void remove(Ticket ticket, const Stream&) override { done(ticket, 0, {}); }
  void put(Ticket ticket, const Place& place, const std::string&, std::span<const std::byte> bytes,
           Expect) override {
    if (place.stream.kind == StreamKind::epochs) epoch_value_.assign(bytes.begin(), bytes.end());
    if (place.stream.kind == StreamKind::tasks) epoch = place.stream.epoch;
    done(ticket, place.stream.kind == StreamKind::tasks ? ++stored : 1, {});
  }
  void find(Ticket ticket, const Place& place) override {
    Answer answer{.ticket = ticket, .number = 1, .bytes = epoch_value_, .text = {}};
    if (place.stream.kind != StreamKind::epochs || epoch_value_.empty()) answer.how = Answer::How::missing;
    answers.push_back(std::move(answer));
  }
  void find(Ticket ticket, const Stream&, std::uint64_t) override { done(ticket, 0, {}); }
  void erase(Ticket, const Stream&, std::uint64_t) override {}
  void erase_at(Ticket ticket, const Place&, std::uint64_t) override { done(ticket, 0, {}); }
  void purge(Ticket ticket, const Place&, std::uint64_t) override { done(ticket, 0, {}); }
  void take(Ticket, const Queue&, std::size_t, Time) override {}
  void extend(const std::string&) override {}
  void settle(Ticket, const std::string&, Settle) override {}
  void follow(Ticket feed, const Place& below, std::uint64_t) override {
    if (below.stream.kind == StreamKind::results) results = feed;
  }
  void unfollow(Ticket) override {}
  void listen(const Address&) override {}
  void tell(const Address& to, std::span<const std::byte> packet) override {
    if (to.kind != Address::Kind::node) return;
    auto envelope = decode(build_token(build_a), packet);
    if (auto* const assignment = std::get_if<Assignment>(&envelope->message))
      assignments.push_back(std::move(*assignment));
  }
  [[nodiscard]] std::size_t max_message() const override { return 1U << 20U; }
  [[nodiscard]] EngineState connection() const override {
    return {.connected = true, .outages = 0, .last_words = {}};
  }

 private:
  void done(Ticket ticket, std::uint64_t number, std::string text) {
    if (ticket != 0)
      answers.push_back({.ticket = ticket, .number = number, .bytes = {}, .text = std::move(text)});
  }
  Bytes epoch_value_;
};

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}
double resident_bytes() {
  std::ifstream in{"/proc/self/statm"};
  double pages = 0, resident = 0;
  in >> pages >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

constexpr std::size_t node_count = 1000;
constexpr std::size_t held_at_once = 8;  ///< of each node

enum class Way : std::uint8_t {
  queue,    ///< nodes fetch tasks, and ask for permits
  assigned  ///< the head gives each node its next ones
};

/// A head with `count` open tasks, of which the nodes take some in turn until all have ended.
class Growth {
 public:
  struct Cost {
    double submit_us = 0, rest_us = 0, bytes = 0;
  };

  Growth(std::size_t count, Way way, std::size_t room = held_at_once)
      : count_{count}, room_{room}, way_{way} {
    HeadSettings settings = as_here({});
    settings.assigns = way == Way::assigned;
    head_ = std::make_unique<Head>(settings, engine_);
    while (!head_->ready()) pass();
    for (std::size_t node = 0; node < node_count; ++node) tell_status(node);
  }
  Cost run() {
    Cost cost;
    ::malloc_trim(0);  // what an earlier run has freed is not to be used again unseen
    const double memory = resident_bytes();
    double begin = cpu_seconds();
    submit_all(0);
    cost.submit_us = 1e6 * (cpu_seconds() - begin) / static_cast<double>(count_);
    cost.bytes = (resident_bytes() - memory) / static_cast<double>(count_);
    begin = cpu_seconds();
    if (way_ == Way::queue)
      run_by_queue();
    else
      run_assigned();
    CHECK(head_->open_tasks() == 0);
    CHECK(head_->counts().done == count_);
    CHECK(head_->counts().epochs == 1);
    cost.rest_us = 1e6 * (cpu_seconds() - begin) / static_cast<double>(count_);
    return cost;
  }

  /// All tasks are with the nodes, which are all lost at once. CPU for each task until it is published anew,
  /// us.
  double lose_all_nodes() {
    submit_all(1);
    for (const Assignment& assignment : std::exchange(engine_.assignments, {}))
      sent_ += assignment.tasks.size();
    CHECK(sent_ == count_);
    const double begin = cpu_seconds();
    for (int steps = 0; head_->counts().retried < count_; ++steps) {
      REQUIRE(steps < 100'000'000);
      pass(head_->counts().nodes_lost == 0 ? seconds{1} : milliseconds{1});
    }
    CHECK(head_->counts().nodes_lost == node_count);
    return 1e6 * (cpu_seconds() - begin) / static_cast<double>(count_);
  }

 private:
  void submit_all(std::int32_t retries) {
    while (submitted_ < count_) {
      for (std::size_t i = 0; i < 4096 && submitted_ < count_; ++i, ++submitted_) {
        TaskSpec spec;
        spec.name = "task";
        spec.retries = retries;
        spec.arguments.resize(8);
        (void)head_->submit(now_, std::move(spec));
      }
      pass();
    }
    while (way_ == Way::queue && head_->counts().confirmed < count_) pass();
  }
  void run_by_queue() {
    for (std::size_t task = 1; task <= count_;) {
      for (std::size_t node = 0; node < node_count && task <= count_; ++node) {
        const std::size_t end = std::min(task + held_at_once, count_ + 1);
        claim(node, task, end);
        for (std::size_t each = task; each < end; ++each) finish(node, each);
        if (node % 64 == 0) tell_status(node);
        task = end;
      }
      pass();
    }
  }
  void run_assigned() {
    while (head_->open_tasks() != 0) {
      for (const Assignment& assignment : std::exchange(engine_.assignments, {})) {
        const std::size_t node = assignment.life - 1;
        for (const Assigned& each : assignment.tasks) finish(node, each.grant.task);
        seen_[node] = assignment.serial;
        if (node % 64 == 0) tell_status(node);
      }
      pass();
    }
  }
  void pass(Time step = milliseconds{1}) {
    now_ += step;
    for (const Answer& answer : std::exchange(engine_.answers, {})) head_->on_event(now_, answer);
    // Its own beat comes back, so that it counts no outage.
    head_->on_event(now_, Told{encode(build_token(build_a), engine_.epoch, Message{HeadBeat{.job = 7}})});
    head_->tick(now_);
    (void)head_->take_ended();
    (void)head_->take_news();
  }
  void tell(const Message& message) {
    head_->on_event(now_, Told{encode(build_token(build_a), engine_.epoch, message)});
  }
  void tell_status(std::size_t node) {
    tell(Message{Status{.life = node + 1,
                        .node = "n" + std::to_string(node),
                        .pid = 1,
                        .workers = held_at_once,
                        .capacity = static_cast<std::uint32_t>(room_),
                        .assignments_seen = seen_[node]}});
  }
  void claim(std::size_t node, std::size_t from, std::size_t to) {
    Claim claim{.life = node + 1, .node = "n" + std::to_string(node), .tasks = {}};
    for (std::size_t task = from; task < to; ++task) claim.tasks.push_back({task, task, HeldState::claimed});
    tell(Message{std::move(claim)});
  }
  void finish(std::size_t node, std::uint64_t task) {
    Result result;
    result.job = 7;
    result.task = task;
    result.life = node + 1;
    result.run = 1;
    result.node = "n" + std::to_string(node);
    result.bytes.resize(8);
    head_->on_event(now_, StreamEntry{engine_.results, ++entries_,
                                      encode(build_token(build_a), engine_.epoch, Message{result})});
  }

  std::size_t count_;
  std::size_t room_;
  Way way_;
  std::vector<std::uint64_t> seen_ = std::vector<std::uint64_t>(node_count);
  std::size_t sent_ = 0;
  std::uint64_t entries_ = 0;
  std::size_t submitted_ = 0;
  Time now_{seconds{1}};
  ReadyEngine engine_;
  std::unique_ptr<Head> head_;
};

}  // namespace

TEST_CASE("a head's cost for each task does not grow with the tasks that are open, nor beyond a kilobyte") {
  std::vector<std::size_t> counts{10'000, 100'000};
  if (long_run()) counts.push_back(1'000'000);
  if (const char* const most = std::getenv("KINDRED_GROWTH_TASKS"))
    counts.push_back(std::stoull(most));  // 10,000,000 take some 7 GB
  std::printf("%12s %10s %16s %16s %16s\n", "open tasks", "by", "submit, us CPU", "rest, us CPU",
              "bytes a task");
  for (const Way way : {Way::queue, Way::assigned}) {
    std::vector<double> costs;
    for (const std::size_t count : counts) {
      const Growth::Cost cost = Growth{count, way}.run();
      std::printf("%12zu %10s %16.2f %16.2f %16.0f\n", count, way == Way::queue ? "queue" : "head",
                  cost.submit_us, cost.rest_us, cost.bytes);
      std::fflush(stdout);
      costs.push_back(cost.submit_us + cost.rest_us);
      if (kindred::test::slowness() == 1)
        CHECK(cost.bytes < 1024);  // a sanitizer keeps memory that was freed
    }
    // Caches make it somewhat dearer; anything that looks at every task would multiply it by tens.
    for (const double cost : costs) CHECK(cost < 4 * costs.front());
  }
}

TEST_CASE("when a thousand nodes are lost at once, the cost for each task does not grow with their number") {
  std::vector<double> costs;
  std::printf("%12s %24s\n", "tasks lost", "us CPU, each, till queued");
  for (const std::size_t count : {10'000, 100'000}) {
    costs.push_back(Growth{count, Way::assigned, count / node_count}.lose_all_nodes());
    std::printf("%12zu %24.2f\n", count, costs.back());
    std::fflush(stdout);
  }
  CHECK(costs.back() < 4 * costs.front());
}

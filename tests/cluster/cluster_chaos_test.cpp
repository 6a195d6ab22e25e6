// ctest: LABELS long TIMEOUT 1800 PROCESSORS 2
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cluster/machines.hpp"
#include "kindred/log.hpp"
#include "support/deadline.hpp"

// Kills nodes, workers, heads and servers, stops them, cuts links and wipes the store, for ten minutes
// (KINDRED_CHAOS_SECONDS: for so long), while heads send tasks. The oracle is a file of each head, to which
// every task appends a line when it begins: no future without an end, none with a wrong value, no task twice
// that may begin once, and nothing that still runs at the end.
using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr int max_tasks = 200;
constexpr auto patience = 180s;  ///< for the end of a future

int work(const std::string& file, int number, int milliseconds) {
  const std::string line = std::to_string(number) + "\n";
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  (void)!::write(fd, line.data(), line.size());  // whole: one call, to a file
  ::close(fd);
  if (number % 5 == 0) log_info("task {}", number);
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  if (number % 13 == 0) throw std::domain_error{"as it should " + std::to_string(number)};
  return 7 * number;
}
int squared(int value) { return value * value; }

/// May task `number` begin more than once?
bool may_repeat(int number) { return number % 2 == 1; }

struct Counts {
  int values = 0, threw = 0, lost = 0, refused = 0, endless = 0, wrong = 0, maps = 0, maps_failed = 0;
};

void await(Future<int>& future, int number, Counts& counts) {
  if (!future.wait_for(patience)) {
    ++counts.endless;
    return;
  }
  try {
    const int value = future.get();
    ++(value == 7 * number && number % 13 != 0 ? counts.values : counts.wrong);
  } catch (const std::domain_error&) {
    ++(number % 13 == 0 ? counts.threw : counts.wrong);
  } catch (const WorkerLost&) {
    ++counts.lost;
  } catch (const UsageError& error) {
    ++counts.refused;
    std::fprintf(stderr, "task %d: %s\n", number, error.what());
  } catch (const std::exception& error) {
    ++counts.wrong;
    std::fprintf(stderr, "task %d: %s\n", number, error.what());
  }
}

/// A head: sends tasks, and says what became of them.
int serve_as_head(ClusterEntry& entry, const std::string& url, const std::string& file, unsigned seed) {
  std::mt19937 random{seed};
  ClusterOptions options;
  options.name = "test";
  options.servers = {url};
  options.lease = 2s;
  options.head_grace = 5s;
  options.node_timeout = 60s;
  options.restart_limit = {.count = 1'000'000, .period = 1s};
  options.log.level = Level::info;
  Counts counts;
  {
    ClusterExecutor cluster{entry, options};
    std::vector<Future<int>> futures;
    for (int i = 0; i < max_tasks; ++i)
      futures.push_back(cluster.submit({.retries = may_repeat(i) ? 30 : 0}, work, file, i,
                                       static_cast<int>(random() % 80)));
    std::vector<int> input(2000);
    std::iota(input.begin(), input.end(), 0);
    try {
      int at = 0;
      for (const int value : cluster.map(squared, input, {.timeout = patience, .retries = 30})) {
        counts.wrong += value == at * at ? 0 : 1;
        ++at;
      }
      counts.wrong += at == 2000 ? 0 : 1;
      ++counts.maps;
    } catch (const TimeoutError&) {
      ++counts.endless;
    } catch (const std::exception& error) {
      ++counts.maps_failed;
      std::fprintf(stderr, "map: %s\n", error.what());
    }
    for (int i = 0; i < max_tasks; ++i) await(futures[static_cast<std::size_t>(i)], i, counts);
  }
  std::printf("%d %d %d %d %d %d %d %d\n", counts.values, counts.threw, counts.lost, counts.refused,
              counts.endless, counts.wrong, counts.maps, counts.maps_failed);
  return 0;
}

}  // namespace

namespace kindred::test {
void pass_further_gates(int argc, char** argv) {
  static ClusterEntry entry{argc, argv};
  the_cluster_entry = &entry;
  if (argc == 5 && std::string{argv[1]} == "--chaos-head") {
    try {
      std::exit(serve_as_head(entry, argv[2], argv[3], static_cast<unsigned>(std::stoul(argv[4]))));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::exit(3);
    }
  }
}
}  // namespace kindred::test

namespace {

std::string own_path() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

class Chaos {
 public:
  explicit Chaos(unsigned seed) : random_{seed} {
    if (can_make_networks()) far_ = std::make_unique<Network>(9);
    server_ = std::make_unique<NatsServer>(std::vector<std::string>{}, true, far_ ? "0.0.0.0" : "127.0.0.1");
    for (std::size_t i = 0; i < 3; ++i) start_node(i);
    for (std::size_t i = 0; i < 2; ++i) start_head(i);
  }

  void run(std::chrono::seconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      pause(200 + random_() % 1200);
      act();
      look_at_heads(true);
    }
    // What is open may end now.
    while (std::ranges::any_of(heads_, [](const auto& head) { return head != nullptr; })) {
      look_at_heads(false);
      pause(50);
    }
    for (auto& node : nodes_) {
      node->signal(SIGTERM);
      CHECK(node->wait().code == 0);
      node.reset();
    }
    server_->kill();
    check_begun();
    print();
  }

 private:
  struct Head {
    std::unique_ptr<Program> program;
    std::string file;
    bool killed = false;
  };

  static void pause(unsigned long milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  }
  void start_node(std::size_t i) {
    const Network* const network = i == 2 ? far_.get() : nullptr;
    nodes_[i] =
        std::make_unique<NodeProgram>(*server_, "n" + std::to_string(i), 2,
                                      std::vector<std::string>{"--drain", "5"}, "/proc/self/exe", network);
  }
  void start_head(std::size_t i) {
    auto head = std::make_unique<Head>();
    const unsigned number = ++heads_begun_;
    head->file = folder_ / ("begun." + std::to_string(number));
    std::ofstream{head->file};
    files_.push_back(head->file);
    ProgramOptions options;
    options.timeout = 30min;
    head->program = std::make_unique<Program>(
        own_path(),
        std::vector<std::string>{"--chaos-head", server_->url(), head->file, std::to_string(number)},
        options);
    heads_[i] = std::move(head);
  }

  void act() {
    NodeProgram& node = *nodes_[random_() % 3];
    const std::size_t at = static_cast<std::size_t>(
        std::ranges::find_if(nodes_, [&](const auto& each) { return each.get() == &node; }) - nodes_.begin());
    switch (random_() % 24) {
      case 0:
      case 1:
      case 2:
        ++done_["nodes killed"];
        (void)node.kill();
        start_node(at);
        break;
      case 3:
      case 4:
        ++done_["nodes told to end"];
        node.signal(SIGTERM);
        CHECK(node.wait().code == 0);
        start_node(at);
        break;
      case 5:
      case 6:
      case 7:
        ++done_["nodes stopped"];
        node.signal(SIGSTOP);
        pause(random_() % 6000);
        node.signal(SIGCONT);
        break;
      case 8:
      case 9:
      case 10:
      case 11:
      case 12: {
        const auto below = descendants(node.pid());
        if (below.empty()) break;
        ++done_["workers killed"];
        ::kill(below[random_() % below.size()].pid, SIGKILL);
        break;
      }
      case 13:
      case 14:
        ++done_["servers killed"];
        server_->kill();
        pause(random_() % 3000);
        server_->start();
        break;
      case 15:
        ++done_["servers told to end"];
        server_->kill(SIGTERM);
        server_->start();
        break;
      case 16:
      case 17:
        ++done_["servers stopped"];
        server_->signal(SIGSTOP);
        pause(random_() % 4000);
        server_->signal(SIGCONT);
        break;
      case 18:
        ++done_["stores wiped"];
        server_->kill();
        server_->wipe();
        server_->start();
        break;
      case 19: {
        auto& head = heads_[random_() % 2];
        if (!head) break;
        ++done_["heads killed"];
        head->killed = true;
        head->program->signal(SIGKILL);
        break;
      }
      default:
        if (!far_) break;
        ++done_["links cut"];
        far_->cut();
        pause(random_() % 7000);
        far_->mend();
    }
  }

  void look_at_heads(bool go_on) {
    for (std::size_t i = 0; i < 2; ++i) {
      auto& head = heads_[i];
      if (!head) continue;
      if (!head->killed && !has_ended(head->program->pid())) continue;
      const kindred::test::Outcome outcome = head->program->wait();
      if (!head->killed) {
        CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
        Counts counts;
        CHECK(std::sscanf(outcome.out.c_str(), "%d %d %d %d %d %d %d %d", &counts.values, &counts.threw,
                          &counts.lost, &counts.refused, &counts.endless, &counts.wrong, &counts.maps,
                          &counts.maps_failed) == 8);
        CHECK_MESSAGE(counts.endless == 0, outcome.err);
        CHECK_MESSAGE(counts.wrong == 0, outcome.err);
        add(counts);
      }
      head.reset();
      if (go_on) start_head(i);
    }
  }
  static bool has_ended(pid_t pid) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/stat"};
    std::string number, name, state;
    in >> number >> name >> state;
    return state.empty() || state == "Z";
  }
  void add(const Counts& counts) {
    ++heads_ended_;
    all_.values += counts.values;
    all_.threw += counts.threw;
    all_.lost += counts.lost;
    all_.refused += counts.refused;
    all_.endless += counts.endless;
    all_.wrong += counts.wrong;
    all_.maps += counts.maps;
    all_.maps_failed += counts.maps_failed;
  }

  void check_begun() {
    for (const std::string& file : files_) {
      std::map<int, int> begun;
      std::ifstream in{file};
      for (int number = 0; in >> number;) ++begun[number];
      for (const auto& [number, times] : begun) {
        if (times < 2) continue;
        ++(may_repeat(number) ? repeated_ : twice_);
        CHECK_MESSAGE(may_repeat(number), "task ", number, " of ", file, " began ", times, " times");
      }
    }
  }

  void print() {
    std::printf(
        "%d heads ended: %d values, %d threw, %d lost with a worker or node, %d refused, %d maps (%d failed)\n",
        heads_ended_, all_.values, all_.threw, all_.lost, all_.refused, all_.maps, all_.maps_failed);
    std::printf("%d without an end, %d wrong, %d of at most once begun twice, %d of the others begun again\n",
                all_.endless, all_.wrong, twice_, repeated_);
    for (const auto& [what, times] : done_) std::printf("  %s: %d\n", what.c_str(), times);
  }

  std::mt19937 random_;
  TemporaryFolder folder_;
  std::unique_ptr<Network> far_;
  std::unique_ptr<NatsServer> server_;
  std::array<std::unique_ptr<NodeProgram>, 3> nodes_;
  std::array<std::unique_ptr<Head>, 2> heads_;
  std::vector<std::string> files_;
  std::map<std::string, int> done_;
  unsigned heads_begun_ = 0;
  Counts all_;
  int heads_ended_ = 0, twice_ = 0, repeated_ = 0;
};

}  // namespace

TEST_CASE(
    "ten minutes of deaths, stops, cuts and wipes: every future ends, none is wrong, none begins twice that may not") {
  KINDRED_NEEDS_NATS_SERVER();
  const char* const given = std::getenv("KINDRED_CHAOS_SECONDS");
  const char* const seed = std::getenv("KINDRED_CHAOS_SEED");
  const std::chrono::seconds time{given == nullptr ? 600 : std::atoi(given)};
  const Deadline deadline{time + 400s};
  Chaos{seed == nullptr ? 1U : static_cast<unsigned>(std::atoi(seed))}.run(time);
  CHECK_MESSAGE(wait_until([] { return descendants(::getpid()).empty(); }), "processes are left");
}

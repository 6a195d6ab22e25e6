// kindred-view: serves a page that shows pools while they run. libpool/doc/view.md is its page.
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "command_line.hpp"
#include "pool_choice.hpp"
#include "pool_set.hpp"
#include "web_server.hpp"

namespace {

using namespace kindred::tools;
using namespace kindred::view;
using namespace std::chrono_literals;

constexpr std::string_view help_head =
    R"(kindred-view PID [OPTION...]      shows the pools of that process, and those in
                                  its workers
kindred-view PID/N [OPTION...]    one of them: N as kindred-tail lists it
kindred-view --all [OPTION...]    all pools of this user (root: of all users),
                                  also those to come
)";
constexpr std::string_view help_foot =
    R"(Prints the page's address, and serves it until it is interrupted. On loopback
the page is for this user and root. Listening anywhere else needs a token, which
is made where none is given, and is part of the printed address.
Paths: / the page, /metrics for Prometheus, /pools.json for scripts.
Exit status: 0 ended, 1 there is no pool, 2 wrong usage.
)";

struct Wishes {
  PoolChoice choice;
  bool all = false;
  WebServer::Address address;
  std::string token;
  bool wait = false;
  bool until_end = false;
};

WebServer::Address address_in(const std::string& text) {
  const auto colon = text.rfind(':');
  WebServer::Address address;
  const auto refuse = [&] {
    throw Stop{exit_usage, fmt::format("--listen is '{}'; it must be HOST:PORT, as 127.0.0.1:8080", text)};
  };
  if (colon == std::string::npos || colon == 0) refuse();
  address.host = text.substr(0, colon);
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  const char* const begin = text.data() + colon + 1;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(begin, end, address.port);
  if (read.ec != std::errc{} || read.ptr != end || address.port < 0 || address.port > 65535) refuse();
  return address;
}

std::string token_in(const std::string& path) {
  std::ifstream file{path};
  std::string token;
  file >> token;
  if (token.size() < 16)
    throw Stop{exit_usage, fmt::format("the file {} holds no token of 16 characters or more", path)};
  return token;
}

Wishes read_arguments(std::vector<std::string> words) {
  Wishes wishes;
  CommandLine line{"kindred-view", help_head};
  line.argument("PID", [&](const std::string& value) { wishes.choice = pool_choice(value); });
  line.flag("--all", "all pools", [&] { wishes.all = true; });
  line.option("--listen", "HOST:PORT",
              "where the page is served (default 127.0.0.1:0; port 0: any that is free)",
              [&](const std::string& value) { wishes.address = address_in(value); });
  line.option("--token-file", "FILE",
              "a visitor that shows the token in this file is let in, also from elsewhere",
              [&](const std::string& value) { wishes.token = token_in(value); });
  line.flag("--wait", "begins where there is no pool yet, and shows those to come",
            [&] { wishes.wait = true; });
  line.flag("--until-end", "ends when the pools have ended", [&] { wishes.until_end = true; });
  line.foot(help_foot);
  line.read(std::move(words));
  if (wishes.all == wishes.choice.pid.has_value())
    throw Stop{exit_usage, "say which pools: kindred-view PID, or kindred-view --all"};
  if (wishes.token.empty() && !is_loopback(wishes.address.host) && wishes.address.host != "localhost")
    wishes.token = random_token();
  return wishes;
}

int run(std::vector<std::string> words) {
  Wishes wishes = read_arguments(std::move(words));
  PoolSet pools{wishes.choice};
  if (wishes.choice.pid && !wishes.wait && !pools.ever_found())
    throw Stop{exit_failed, words_for_no_pool(wishes.choice)};
  WebServer server{pools, wishes.address, wishes.token};
  fmt::print("{}\n", server.url());
  std::fflush(stdout);
  std::thread watch;
  if (wishes.until_end) {
    watch = std::thread{[&] {
      while (!pools.ever_found() || pools.live() != 0) std::this_thread::sleep_for(200ms);
      std::this_thread::sleep_for(1s);  // for the pages to be told
      server.stop();
    }};
  }
  server.run();
  if (watch.joinable()) watch.join();
  return exit_ended;
}

}  // namespace

int main(int argc, char** argv) { return run_program("kindred-view", argc, argv, run); }

// kindred-node: makes a program that uses kindred::ClusterExecutor a node of a cluster.
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/node_options.hpp"
#include "linux/handover.hpp"
#include "node/node_options_codec.hpp"

namespace {

constexpr const char* usage =
    R"(usage: kindred-node --cluster NAME [OPTION...] -- PROGRAM
Runs PROGRAM as a node: it takes tasks of heads that run the same build of it, and ends on SIGTERM.

  --cluster NAME          the cluster's name, as in ClusterOptions::name
  --servers URL[,URL...]  NATS servers (default nats://127.0.0.1:4222)
  --credentials FILE      NATS credentials
  --nkey FILE             the seed of an NKey (SU...) in one line, its public key (U...) in another
  --user NAME             with the password in the file that --password-file names
  --password-file FILE
  --tls-ca FILE           the authority of the servers' certificates; --tls-cert FILE, --tls-key FILE: our own
  --tls-host NAME         the name in the servers' certificate
  --sign-key FILE         the secret that all messages of the cluster are signed with
  --insecure              lets servers beyond this machine be used without TLS and credentials
  --name NAME             this node's name (default: the host's)
  --workers N             most workers at once (default: the CPUs that may be used)
  --accept-jobs PATTERN[,PATTERN...]
                          only jobs whose name (ClusterOptions::job) one of them fits, with * and ? (default: all)
  --prefetch N            tasks that are fetched ahead (default: as many as run for 5 ms)
  --start-method METHOD   fork, spawn or forkserver (default)
  --nice N                niceness of the workers
  --capture-output        what workers write to stdout and stderr goes into the log
  --load-libraries        workers may load libraries that tasks need
  --drain SECONDS         how long running tasks may go on after SIGTERM (default 30)
)";

[[noreturn]] void fail(const std::string& text) {
  std::fprintf(stderr, "kindred-node: %s\n", text.c_str());
  std::exit(64);
}

long long number(std::string_view option, const std::string& text) {
  long long value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc{} || end.ptr != text.data() + text.size())
    fail(std::string{option} + " takes a number, and '" + text + "' is none.");
  return value;
}

std::string first_line(const std::string& path) {
  std::ifstream in{path};
  std::string line;
  if (!std::getline(in, line)) fail("the password file " + path + " cannot be read.");
  return line;
}

std::vector<std::string> parts(const std::string& value) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= value.size();) {
    const auto comma = std::min(value.find(',', at), value.size());
    parts.push_back(value.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

void take_value(kindred::NodeOptions& options, const std::string& option, const std::string& value) {
  if (option == "--cluster") {
    options.cluster = value;
  } else if (option == "--servers") {
    options.engine.servers = parts(value);
  } else if (option == "--accept-jobs") {
    options.accept_jobs = parts(value);
  } else if (option == "--credentials") {
    options.engine.credentials = value;
  } else if (option == "--nkey") {
    options.engine.nkey = value;
  } else if (option == "--user") {
    options.engine.user = value;
  } else if (option == "--password-file") {
    options.engine.password = first_line(value);
  } else if (option == "--tls-ca") {
    options.engine.tls.ca = value;
  } else if (option == "--tls-cert") {
    options.engine.tls.cert = value;
  } else if (option == "--tls-key") {
    options.engine.tls.key = value;
  } else if (option == "--tls-host") {
    options.engine.tls.host = value;
  } else if (option == "--sign-key") {
    options.engine.sign_key = value;
  } else if (option == "--name") {
    options.name = value;
  } else if (option == "--workers") {
    options.max_workers = number(option, value);
  } else if (option == "--prefetch") {
    options.prefetch = static_cast<std::uint32_t>(number(option, value));
  } else if (option == "--start-method") {
    options.start_method = kindred::parse_start_method(value);
  } else if (option == "--nice") {
    options.worker.nice = static_cast<int>(number(option, value));
  } else if (option == "--drain") {
    options.drain_grace = std::chrono::seconds{number(option, value)};
  } else {
    fail("there is no option " + option + ". kindred-node --help lists them.");
  }
}

}  // namespace

int main(int argc, char** argv) {
  kindred::NodeOptions options;
  options.name = kindred::internal::host_name();
  std::string program;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string option = argv[i];
      if (option == "--help") {
        std::fputs(usage, stdout);
        return 0;
      }
      if (option == "--") {
        if (i + 2 != argc)
          fail("after -- stands the program, and nothing else: a node gets its calls from heads.");
        program = argv[i + 1];
        break;
      }
      if (option == "--insecure") {
        options.engine.insecure = true;
      } else if (option == "--capture-output") {
        options.worker.capture_output = true;
      } else if (option == "--load-libraries") {
        options.worker.load_libraries = true;
      } else {
        if (i + 1 == argc) fail(option + " takes a value.");
        take_value(options, option, argv[++i]);
      }
    }
    if (program.empty())
      fail("which program? Say it after --, as in: kindred-node --cluster NAME -- ./program");
    options.validate();
    kindred::internal::execute_as_node(program, kindred::internal::encode_node_options(options));
  } catch (const std::exception& error) {
    fail(error.what());
  }
}

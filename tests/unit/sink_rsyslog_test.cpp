// spdlog's network sinks against a real receiver: rsyslog, with a configuration of ours, on sockets of ours.
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/sinks/tcp_sink.h>
#include <spdlog/sinks/udp_sink.h>

#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/sinks.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
using namespace kindred;

namespace {

constexpr const char* rsyslogd = "/usr/sbin/rsyslogd";

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

/// A port that nobody had a moment ago.
int free_port(int type) {
  const int socket = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  socklen_t size = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

/// rsyslog, which hands each message as it came to a FIFO that we read.
class Receiver {
 public:
  Receiver() {
    REQUIRE(::mkfifo((folder_ / "out").c_str(), 0600) == 0);
    output_ = ::open((folder_ / "out").c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(output_ >= 0);
    test::write_file(
        folder_ / "conf",
        "global(workDirectory=\"" + folder_.path() +
            "\" maxMessageSize=\"64k\")\n"
            "module(load=\"imtcp\")\nmodule(load=\"imudp\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n"
            "template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n"
            "input(type=\"imtcp\" address=\"127.0.0.1\" port=\"" +
            std::to_string(tcp) +
            "\")\n"
            "input(type=\"imudp\" address=\"127.0.0.1\" port=\"" +
            std::to_string(udp) +
            "\")\n"
            "input(type=\"imuxsock\" Socket=\"" +
            local +
            "\" ParseTrusted=\"off\")\n"
            "action(type=\"ompipe\" Pipe=\"" +
            (folder_ / "out") + "\" template=\"raw\")\n");
    // It says when it is ready, as it would to systemd.
    const auto notify = unix_address(folder_ / "notify");
    const int ready = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(ready, reinterpret_cast<const sockaddr*>(&notify), sizeof notify) == 0);
    test::ProgramOptions options;
    options.environment = {"NOTIFY_SOCKET=" + (folder_ / "notify")};
    program_ = std::make_unique<test::Program>(
        rsyslogd, std::vector<std::string>{"-n", "-f", folder_ / "conf", "-i", folder_ / "pid"}, options);
    std::string said;
    while (!test::contains(said, "READY=1")) {
      pollfd poll{.fd = ready, .events = POLLIN, .revents = 0};
      if (::poll(&poll, 1, 20'000) != 1) break;
      std::array<char, 1024> message{};
      const auto got = ::recv(ready, message.data(), message.size(), 0);
      said.assign(message.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    ::close(ready);
    REQUIRE_MESSAGE(test::contains(said, "READY=1"), "rsyslog did not start");
  }
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;
  ~Receiver() { ::close(output_); }

  [[nodiscard]] std::string read_line() {
    while (true) {
      const auto newline = read_.find('\n');
      if (newline != std::string::npos) {
        auto line = read_.substr(0, newline);
        read_.erase(0, newline + 1);
        return line;
      }
      pollfd poll{.fd = output_, .events = POLLIN, .revents = 0};
      REQUIRE_MESSAGE(::poll(&poll, 1, 20'000) == 1, "nothing came");
      std::array<char, 65536> block{};
      const auto got = ::read(output_, block.data(), block.size());
      REQUIRE(got > 0);
      read_.append(block.data(), static_cast<std::size_t>(got));
    }
  }

  const int tcp = free_port(SOCK_STREAM);
  const int udp = free_port(SOCK_DGRAM);

 private:
  test::TemporaryFolder folder_;

 public:
  const std::string local = folder_ / "log";

 private:
  int output_ = -1;
  std::string read_;
  std::unique_ptr<test::Program> program_;
};

std::string line_of(const LogRecord& record) {
  internal::PatternFormatter formatter{""};
  internal::TextBuffer out;
  formatter.append(record, out);
  return std::string{out.view()};
}

void check_arrivals(Receiver& receiver, const std::vector<LogRecord>& records) {
  const auto reader = internal::make_text_reader({});
  for (auto record : records) {
    const auto line = receiver.read_line();
    REQUIRE(line == line_of(record));
    LogRecord back;
    REQUIRE(reader->read(line, back));
    test::cut_to_default_line(record);
    REQUIRE(test::difference(record, back) == "");
  }
}

}  // namespace

TEST_CASE("rsyslog receives hostile records over tcp and udp, one message each, and they are read back") {
  if (!std::filesystem::exists(rsyslogd)) KINDRED_SKIP("no rsyslog on this machine: apt-get install rsyslog");
  auto records = test::hostile_records();
  std::erase_if(records,
                [](const LogRecord& record) { return line_of(record).size() > 8000; });  // a datagram
  Receiver receiver;
  REQUIRE(records.size() > 300);
  {
    const auto sink = AnySink{std::make_shared<spdlog::sinks::tcp_sink_st>(
                                  spdlog::sinks::tcp_sink_config{"127.0.0.1", receiver.tcp})}
                          .make({.pattern = "%+"});
    for (const auto& record : records) sink->write(record);
    sink->flush();
    check_arrivals(receiver, records);
  }
  const auto sink = AnySink{std::make_shared<spdlog::sinks::udp_sink_st>(spdlog::sinks::udp_sink_config{
                                "127.0.0.1", static_cast<std::uint16_t>(receiver.udp)})}
                        .make({.pattern = "%+"});
  for (const auto& record : records) {
    // One at a time: datagrams may overtake each other in rsyslog's threads, and be dropped where it is slow.
    sink->write(record);
    check_arrivals(receiver, {record});
  }
}

TEST_CASE("syslog(3) receives records with their levels, unchanged sink, own formatter") {
  if (!std::filesystem::exists(rsyslogd)) KINDRED_SKIP("no rsyslog on this machine: apt-get install rsyslog");
  Receiver receiver;
  // The C library knows one socket, /dev/log: a mount namespace of its own shows the child ours.
  constexpr int no_namespace = 77;
  const auto outcome = test::run_forked([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", "/dev", "tmpfs", 0, nullptr) != 0 ||
        ::symlink(receiver.local.c_str(), "/dev/log") != 0)
      std::_Exit(no_namespace);
    const auto sink =
        AnySink{std::make_shared<spdlog::sinks::syslog_sink_st>("kindred-test", 0, LOG_USER, false)}.make({});
    auto record = test::sample_record();
    record.message = "first\nline";
    sink->write(record);
    record.level = Level::error;
    record.message = "\x1b[2Jsecond";
    sink->write(record);
  });
  if (outcome.code == no_namespace) KINDRED_SKIP("no right to make a mount namespace (root has it)");
  CHECK(outcome.code == 0);
  const auto first = receiver.read_line();
  CHECK(first.starts_with("<14>"));  // user.info
  CHECK_CONTAINS(first, "kindred-test: first\\nline {user=7 path=\"a b\" ok=true}");
  const auto second = receiver.read_line();
  CHECK(second.starts_with("<11>"));  // user.err
  CHECK_CONTAINS(second, "\\x1b[2Jsecond");
}

// Records to journald, as a journald receives them: from a datagram socket that stands in for it.

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/journal_socket.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/sinks.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
using namespace kindred;

namespace {

class FakeJournal {
 public:
  explicit FakeJournal(const std::string& path)
      : path_{path}, fd_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)} {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~FakeJournal() { ::unlink(path_.c_str()); }

  /// The next record, as journald takes it apart.
  std::map<std::string, std::string> next() {
    std::string bytes(1 << 20, '\0');
    iovec space{.iov_base = bytes.data(), .iov_len = bytes.size()};
    alignas(cmsghdr) std::array<std::byte, 64> control{};
    msghdr message{};
    message.msg_iov = &space;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    REQUIRE(got >= 0);
    bytes.resize(static_cast<std::size_t>(got));
    if (const auto* const head = CMSG_FIRSTHDR(&message); head != nullptr) {
      REQUIRE(bytes.empty());
      int file = -1;
      std::memcpy(&file, CMSG_DATA(head), sizeof file);
      const kindred::internal::Descriptor held{file};
      // journald reads only what nobody can change any more.
      constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
      CHECK((::fcntl(file, F_GET_SEALS) & seals) == seals);
      struct stat there{};
      REQUIRE(::fstat(file, &there) == 0);
      bytes.resize(static_cast<std::size_t>(there.st_size));
      REQUIRE(::pread(file, bytes.data(), bytes.size(), 0) == there.st_size);
      by_file = true;
    }
    return parse(bytes);
  }
  bool by_file = false;

 private:
  static std::map<std::string, std::string> parse(std::string_view bytes) {
    std::map<std::string, std::string> fields;
    while (!bytes.empty()) {
      const auto end = bytes.find('\n');
      REQUIRE(end != std::string_view::npos);
      const auto line = bytes.substr(0, end);
      bytes.remove_prefix(end + 1);
      if (const auto sign = line.find('='); sign != std::string_view::npos) {
        fields.emplace(line.substr(0, sign), line.substr(sign + 1));
        continue;
      }
      std::uint64_t size = 0;
      REQUIRE(bytes.size() > sizeof size);
      std::memcpy(&size, bytes.data(), sizeof size);  // little-endian, as this machine
      REQUIRE(bytes.size() - sizeof size > size);
      fields.emplace(line, bytes.substr(sizeof size, size));
      bytes.remove_prefix(sizeof size + size);
      REQUIRE(bytes.starts_with('\n'));
      bytes.remove_prefix(1);
    }
    return fields;
  }

  std::string path_;
  kindred::internal::Descriptor fd_;
};

}  // namespace

TEST_CASE("journald gets each record with its fields") {
  const test::TemporaryFolder folder;
  FakeJournal journal{folder / "socket"};
  const auto sink = sinks::journald({.identifier = "app", .socket = folder / "socket"}).make({});
  LogRecord record = test::sample_record();
  record.level = Level::warn;
  record.logger = "net.http";
  record.message = "two\nlines =";
  record.source = {.file = "a.cpp", .line = 7, .function = "f"};
  record.fields = {{"user", std::int64_t{7}},     {"a b\xff", std::string{"x\ny"}}, {"MESSAGE", true},
                   {"_hidden", std::string{"h"}}, {"kindred_worker", 1.5},          {"", std::string{}}};
  sink->write(record);
  auto fields = journal.next();
  CHECK(fields["MESSAGE"] == "two\nlines =");
  CHECK(fields["PRIORITY"] == "4");
  CHECK(fields["SYSLOG_IDENTIFIER"] == "app");
  CHECK(fields["CODE_FILE"] == "a.cpp");
  CHECK(fields["CODE_LINE"] == "7");
  CHECK(fields["CODE_FUNC"] == "f");
  CHECK(fields["KINDRED_LOGGER"] == "net.http");
  CHECK(fields["KINDRED_WORKER"] == "0");
  CHECK(fields["KINDRED_PID"] == "4711");
  CHECK(fields["KINDRED_TASK"] == "area");
  CHECK(fields["KINDRED_TASK_ID"] == "41");
  CHECK(fields["KINDRED_LEVEL"] == "warn");
  CHECK(fields["USER"] == "7");
  CHECK(fields["A_B_"] == "x\ny");
  CHECK(fields["FIELD_MESSAGE"] == "true");
  CHECK(fields["FIELD__HIDDEN"] == "h");
  CHECK(fields["FIELD_KINDRED_WORKER"] == "1.5");
  CHECK(fields.contains("FIELD_"));
  record.message = std::string(20'000'000, 'x');
  sink->write(record);
  CHECK((journal.next()["MESSAGE"] == record.message));
  CHECK(journal.by_file);
  CHECK(sink->lost() == 0);
  const auto with_pattern =
      sinks::journald({.identifier = "app", .socket = folder / "socket"}).make({.pattern = "<%w> %v"});
  record.message = "m";
  with_pattern->write(record);
  CHECK(journal.next()["MESSAGE"] == "<0> m");
}

TEST_CASE("a journald that is restarted is found again, and what it missed is counted") {
  const test::TemporaryFolder folder;
  const auto path = folder / "socket";
  auto journal = std::make_optional<FakeJournal>(path);
  const auto sink = sinks::journald({.socket = path}).make({});
  LogRecord record = test::sample_record();
  sink->write(record);
  CHECK(journal->next()["SYSLOG_IDENTIFIER"] == kindred::internal::program_name());
  journal.reset();
  sink->write(record);
  sink->write(record);
  CHECK(sink->lost() == 2);
  journal.emplace(path);
  record.message = "again";
  sink->write(record);
  CHECK(journal->next()["MESSAGE"] == "again");
  CHECK(sink->lost() == 2);
}

TEST_CASE("where there is no journald, the error says so, and what to do") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_CONTAINS(sinks::journald({.socket = folder / "none"}).make({}), SystemError,
                        "Is systemd-journald running here?");
  CHECK_THROWS_CONTAINS(sinks::journald({.socket = std::string(200, 'x')}).make({}), UsageError,
                        "has 200 bytes");
}

#include "support/terminal.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace kindred::test {
namespace {

[[noreturn]] void run_on(const char* terminal, const std::vector<std::string>& command,
                         const std::vector<std::string>& environment) {
  ::setsid();
  const int fd = ::open(terminal, O_RDWR);
  for (const int place : {0, 1, 2}) ::dup2(fd, place);
  for (const auto& variable : environment) {
    const auto equals = variable.find('=');
    ::setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1);
  }
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

std::string run_on_terminal(const std::vector<std::string>& command, unsigned columns,
                            const std::vector<std::string>& environment) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0)
    throw std::runtime_error{"there is no pty"};
  winsize size{};
  size.ws_col = static_cast<unsigned short>(columns);
  size.ws_row = 50;
  ::ioctl(terminal, TIOCSWINSZ, &size);
  const std::string name = ::ptsname(terminal);
  const pid_t pid = ::fork();
  if (pid == 0) run_on(name.c_str(), command, environment);

  std::string written;
  std::array<char, 4096> buffer;
  const auto by = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (std::chrono::steady_clock::now() < by) {
    pollfd event{.fd = terminal, .events = POLLIN, .revents = 0};
    if (::poll(&event, 1, 1000) <= 0) continue;
    const auto bytes = ::read(terminal, buffer.data(), buffer.size());
    if (bytes <= 0) break;  // EIO: the last one that had it open is gone
    written.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  ::close(terminal);
  if (std::chrono::steady_clock::now() >= by) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  if (status != 0)
    throw std::runtime_error{command[0] + " ended with status " + std::to_string(status) + ": " + written};
  return written;
}

std::vector<std::string> rows_on_screen(std::string_view written, std::size_t columns) {
  std::vector<std::string> rows(1);
  std::size_t row = 0, column = 0;
  const auto to_row = [&](std::size_t next) {
    row = next;
    if (rows.size() <= row) rows.resize(row + 1);
  };
  for (std::size_t i = 0; i < written.size(); ++i) {
    const char byte = written[i];
    if (byte == '\r') {
      column = 0;
    } else if (byte == '\n') {  // the terminal writes \r\n
      to_row(row + 1);
    } else if (byte == '\x1b') {
      auto end = written.find_first_not_of("0123456789;[", i + 1);
      if (end == std::string_view::npos) end = written.size() - 1;
      if (written[end] == 'K' && rows[row].size() > column) rows[row].resize(column);
      i = end;
    } else {
      if (column == columns) {
        to_row(row + 1);
        column = 0;
      }
      if (rows[row].size() <= column) rows[row].resize(column + 1, ' ');
      rows[row][column++] = byte;
    }
  }
  while (!rows.empty() && rows.back().empty()) rows.pop_back();
  return rows;
}

}  // namespace kindred::test

// A worker's bond to its parent: the read end of a pipe whose other end the parent has.
#include <array>

#include <sys/wait.h>
#include <unistd.h>

#include "kindred/internal/descriptor.hpp"
#include "linux/child.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

// Does a child that binds itself, in a group of its own, say that its parent lives?
bool child_sees_parent(const Descriptor& lifeline) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    ::_exit(bind_to_lifeline(lifeline.get()) ? 1 : 0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status) == 1;
}

}  // namespace

TEST_CASE("a binding sees a parent that lives, and one that died before it") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const Descriptor lifeline{ends[0]};
  Descriptor parents_end{ends[1]};
  CHECK(child_sees_parent(lifeline));
  parents_end.reset();
  CHECK_FALSE(child_sees_parent(lifeline));
}

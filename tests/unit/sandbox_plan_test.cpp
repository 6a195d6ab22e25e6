// What a sandbox is made of, decided without a kernel to do it.
#include <algorithm>
#include <cerrno>

#include "kindred/error.hpp"
#include "kindred/internal/sandbox_plan.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
namespace inside = kindred::internal;

namespace {

inside::SandboxPlatform newest() {
  return {.landlock_abi = 7, .has_seccomp = inside::has_libseccomp(), .has_namespaces = true};
}
bool grants(const inside::SandboxPlan& plan, const std::string& path, std::uint64_t right) {
  for (const auto& entry : plan.paths) {
    if (entry.path == path) return (entry.rights & right) == right;
  }
  return false;
}

}  // namespace

TEST_CASE("a sandbox's values are checked, and the error names the option and the mend") {
  CHECK_NOTHROW(Sandbox::compute().validate());
  CHECK_THROWS_CONTAINS((Sandbox{.read = {""}}.validate()), UsageError, "Sandbox::read holds an empty path");
  CHECK_THROWS_CONTAINS((Sandbox{.write = {"/no/such"}}.validate()), UsageError,
                        "Sandbox::write names '/no/such', which does not exist");
  CHECK_THROWS_CONTAINS((Sandbox{.memory_bytes = 4096}.validate()), UsageError,
                        "Sandbox::memory_bytes is 4096. Use at least 1 MiB");
  CHECK_THROWS_CONTAINS((Sandbox{.waive = {"door"}}.validate()), UsageError, "Use \"landlock\"");
  CHECK_NOTHROW((Sandbox{.waive = {"landlock", "seccomp", "signal_scope"}}.validate()));
}

TEST_CASE("the presets of a sandbox name what they allow") {
  const Sandbox compute = Sandbox::compute();
  CHECK((compute.read.empty() && compute.write.empty()));
  CHECK_FALSE((compute.network || compute.processes || compute.exec || compute.after_initializer));
  const Sandbox files = Sandbox::files({"/usr"}, {"/tmp"});
  CHECK(files.read == std::vector<std::string>{"/usr"});
  CHECK(files.write == std::vector<std::string>{"/tmp"});
  CHECK_FALSE(files.network);
}

TEST_CASE("a layer that is missing is an error that names it, or waived by name and told") {
  auto platform = newest();
  platform.landlock_abi = 0;
  platform.landlock_error = ENOSYS;
  CHECK_THROWS_CONTAINS((void)inside::make_sandbox_plan(Sandbox::compute(), platform), SystemError,
                        "landlock_create_ruleset");
  const auto open = inside::make_sandbox_plan({.waive = {"landlock"}}, platform);
  CHECK_FALSE(open.landlock);
  CHECK_CONTAINS(inside::describe(open), "WITHOUT Landlock (waived)");

  platform = newest();
  platform.has_seccomp = false;
  CHECK_THROWS_CONTAINS((void)inside::make_sandbox_plan(Sandbox::compute(), platform), UsageError,
                        "has no libseccomp");
  platform.seccomp_error = EINVAL;
  CHECK_THROWS_CONTAINS((void)inside::make_sandbox_plan(Sandbox::compute(), platform), SystemError,
                        "CONFIG_SECCOMP_FILTER");
  const auto unfiltered = inside::make_sandbox_plan({.waive = {"seccomp"}}, platform);
  CHECK(unfiltered.calls.empty());
  CHECK_CONTAINS(inside::describe(unfiltered), "WITHOUT seccomp (waived)");

  platform = newest();
  platform.landlock_abi = 5;
  CHECK_NOTHROW((void)inside::make_sandbox_plan(Sandbox::compute(), platform));
  CHECK_THROWS_CONTAINS((void)inside::make_sandbox_plan({.processes = true}, platform), UsageError,
                        "Landlock's ABI 6 (Linux 6.12), and here it is ABI 5");
  CHECK_NOTHROW((void)inside::make_sandbox_plan({.processes = true, .waive = {"signal_scope"}}, platform));
}

TEST_CASE("a plan asks of Landlock what its version has, and grants what the sandbox names") {
  namespace right = inside::landlock;
  auto platform = newest();
  const Sandbox sandbox = Sandbox::files({"/usr"}, {"/tmp"});
  const auto plan = inside::make_sandbox_plan(sandbox, platform);
  CHECK(grants(plan, "/usr", right::read_file | right::read_folder));
  CHECK_FALSE(grants(plan, "/usr", right::write_file));
  CHECK_FALSE(grants(plan, "/usr", right::execute));
  CHECK(grants(plan, "/tmp",
               right::read_file | right::write_file | right::make_file | right::make_folder |
                   right::remove_file | right::truncate));
  CHECK_FALSE(grants(plan, "/tmp", 1U << 12U));  // symbolic links
  CHECK(plan.handled_network == (right::bind_tcp | right::connect_tcp));
  CHECK(plan.scopes == (right::scope_abstract_sockets | right::scope_signals));
  CHECK(plan.own_namespaces);
  for (int abi = 1; abi <= 7; ++abi) {
    platform.landlock_abi = abi;
    const auto older = inside::make_sandbox_plan(sandbox, platform);
    CHECK(older.handled_files == right::all_file_rights(abi));
    CHECK((older.handled_network != 0) == (abi >= 4));
    CHECK((older.scopes != 0) == (abi >= 6));
    for (const auto& path : older.paths) CHECK((path.rights & ~older.handled_files) == 0);
  }
  CHECK(
      grants(inside::make_sandbox_plan({.read = {"/usr"}, .exec = true}, newest()), "/usr", right::execute));
  CHECK(inside::make_sandbox_plan({.network = true}, newest()).handled_network == 0);
  CHECK_FALSE(inside::make_sandbox_plan({.network = true}, newest()).own_namespaces);
  CHECK_FALSE(inside::make_sandbox_plan({.after_initializer = true}, newest()).own_namespaces);
}

TEST_CASE("a plan crosses to the worker as it is") {
  Sandbox sandbox = Sandbox::files({"/usr"}, {"/tmp"});
  sandbox.memory_bytes = 1U << 30U;
  sandbox.after_initializer = true;
  const auto plan = inside::make_sandbox_plan(sandbox, newest());
  std::vector<std::byte> room(std::size_t{1} << 20U);
  inside::Encoder out{inside::ContextId{}, room, nullptr, nullptr};
  inside::write_sandbox_plan(out, plan);
  inside::Decoder in{inside::ContextId{}, out.written()};
  const auto read = inside::read_sandbox_plan(in);
  CHECK(in.left() == 0);
  REQUIRE(read.paths.size() == plan.paths.size());
  for (std::size_t i = 0; i < plan.paths.size(); ++i) {
    CHECK(read.paths[i].path == plan.paths[i].path);
    CHECK(read.paths[i].rights == plan.paths[i].rights);
    CHECK(read.paths[i].must_exist == plan.paths[i].must_exist);
  }
  CHECK(read.handled_files == plan.handled_files);
  CHECK(read.handled_network == plan.handled_network);
  CHECK(read.scopes == plan.scopes);
  CHECK(read.refusals == plan.refusals);
  CHECK(read.calls == plan.calls);
  CHECK(read.memory_bytes == plan.memory_bytes);
  CHECK(read.landlock == plan.landlock);
  CHECK(read.after_initializer);
  CHECK(read.own_namespaces == plan.own_namespaces);
  CHECK(read.limits_file_size == plan.limits_file_size);
}

TEST_CASE("a refused system call is told by its name, and a number that cannot be one by its number") {
  if (!inside::has_libseccomp()) KINDRED_SKIP("this build has no libseccomp");
  CHECK_CONTAINS(inside::sandbox_violation(0), "the sandbox forbids it");
  CHECK_CONTAINS(inside::sandbox_violation(4000), "`number 4000`");
  CHECK_CONTAINS(inside::sandbox_violation(-1), "is not known");
}

TEST_CASE("the filters fit the kernel's limit, and hold the place of the worker's own number") {
  if (!inside::has_libseccomp()) KINDRED_SKIP("this build has no libseccomp");
  for (const bool all : {false, true}) {
    const Sandbox sandbox{.network = all, .processes = all, .exec = all};
    const auto filters = inside::make_sandbox_filters(sandbox, true, 7);
    CHECK(filters.calls.size() > 100);
    CHECK(filters.calls.size() < 4096);
    CHECK(filters.refusals.size() < 4096);
    const auto places = std::ranges::count_if(filters.refusals, [](std::uint64_t instruction) {
      return instruction >> 32U == inside::sandbox_own_pid;
    });
    CHECK(places >= 1);
  }
}

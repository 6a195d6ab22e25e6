#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kindred/cluster.hpp"
#include "linux/handover.hpp"
#include "node/node_options_codec.hpp"
#include "node/node_process.hpp"

namespace kindred {
namespace {

[[noreturn]] void refuse(const std::string& fact) {
  std::fputs(
      ("kindred: this process " + fact + ". It was not started by kindred-node, and does not run.\n").c_str(),
      stderr);
  std::_Exit(70);
}

}  // namespace

ClusterEntry::ClusterEntry(int argc, char** argv) : Entry{argc, argv} {
  using namespace internal;
  const char* const variable = std::getenv(node_variable);
  const bool marked = argc > 1 && argv[1] != nullptr && std::string{argv[1]} == node_argument;
  if (variable == nullptr && !marked) return;
  if (variable == nullptr)
    refuse(std::string{"has the argument "} + node_argument + " of a node, but not its environment");
  const std::string number = variable;
  ::unsetenv(node_variable);  // what this process starts is no node
  if (!marked) return;        // it was inherited from a node's worker
  int descriptor = -1;
  std::from_chars(number.data(), number.data() + number.size(), descriptor);
  int code = 1;
  try {
    code = serve_as_node(*this, decode_node_options(take_node_options(descriptor)));
  } catch (const std::exception& error) {
    std::fputs((std::string{"kindred-node: "} + error.what() + "\n").c_str(), stderr);
    code = 70;
  }
  std::exit(code);
}

}  // namespace kindred

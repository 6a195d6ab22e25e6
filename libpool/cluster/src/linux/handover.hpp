#pragma once

#include <string>
#include <vector>

// How kindred-node hands its options to the program that it becomes: in memory that only this process and
// what it executes see, because they may hold a password.
namespace kindred::internal {

inline constexpr const char* node_variable = "KINDRED_NODE";
inline constexpr const char* node_argument = "--kindred-node";

/// Executes `program` (found by PATH) in place of this process, with the two marks of a node and the options.
/// Errors: `SystemError`; does not return otherwise.
void execute_as_node(const std::string& program, const std::string& options);
/// Reads what `execute_as_node` left behind `descriptor`, and closes it. Errors: `UsageError` where nothing
/// of ours is there.
[[nodiscard]] std::string take_node_options(int descriptor);
[[nodiscard]] std::string host_name();

}  // namespace kindred::internal

#pragma once

#include "kindred/entry.hpp"

/// What a program defines instead of `main` when it links `kindred::main`: the gate has been passed before it
/// is called. For test frameworks, and wherever authors should not have to remember the first line.
int kindred_main(int argc, char** argv, kindred::Entry& entry);

// A map that goes on: one item throws, one crashes its worker, one is too slow, and all others give their
// results.
//
// expect: 17 of 20 parsed
// expect: item 3: std::invalid_argument: no number: three
// expect: item 11: killed by SIGSEGV
// expect: item 17: over its time
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <kindred/kindred.hpp>

using namespace std::chrono_literals;

int parse(const std::string& text) {
  if (text == "three") throw std::invalid_argument{"no number: " + text};
  if (text == "11") std::raise(SIGSEGV);
  if (text == "17") std::this_thread::sleep_for(1h);
  return std::stoi(text);
}

void report(std::size_t index, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const kindred::TaskError& thrown) {
    std::printf("item %zu: %s: %s\n", index, thrown.type_name().c_str(), thrown.original_what().c_str());
  } catch (const kindred::WorkerLost& lost) {
    std::printf("item %zu: %s\n", index, to_string(lost.exit_reason()).substr(4).c_str());
  } catch (const kindred::TaskTimeout&) {
    std::printf("item %zu: over its time\n", index);
  }
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  std::vector<std::string> texts;
  for (int i = 0; i < 20; ++i) texts.push_back(i == 3 ? "three" : std::to_string(i));

  std::size_t parsed = 0;
  std::vector<std::pair<std::size_t, std::exception_ptr>> failed;  // told when the bar is done with its row
  kindred::ProgressBar bar{std::cerr, texts.size(), "texts"};
  for (auto& outcome : pool.map_outcomes(parse, texts, {.progress = bar, .item_timeout = 500ms})) {
    if (outcome.has_value())
      ++parsed;
    else
      failed.emplace_back(outcome.index(), outcome.error());
  }
  for (const auto& [index, error] : failed) report(index, error);
  std::printf("%zu of %zu parsed\n", parsed, texts.size());
}

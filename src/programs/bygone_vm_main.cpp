// The program `bygone-vm`: one process for one machine. People use `bygone start`; a service manager may run this itself.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "programs/bygone_vm/machine_process.h"
#include "service/launch.h"

int main(int argc, char** argv) {
  namespace programs = bygone::programs;
  CLI::App app("Runs one machine until it ends; \"bygone start\" starts this in the background", "bygone-vm");
  std::string machine;
  int ready_fd = -1;
  bool is_verbose = false, is_free = false;
  app.add_option("machine", machine, "The machine's name, or the path of its folder or definition")->required()->type_name("NAME");
  app.add_option("--ready-fd", ready_fd, "Write a line of JSON to this descriptor when the guest runs, or why it does not")->type_name("FD");
  app.add_flag("--verbose", is_verbose, "Say more in the log");
  app.add_flag("--no-sandbox", is_free, "Leave system calls and files open to the process, to debug it");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  const auto library = bygone::library::Library::of_user();
  auto found = library ? library->find(machine) : std::unexpected(library.error());
  auto outcome = bygone::Result<void>();
  if (found) {
    outcome = programs::vm::run_machine({*found, ready_fd, is_verbose, !is_free});
  } else {
    outcome = std::unexpected(found.error());
    bygone::service::report_readiness(ready_fd, outcome);
  }
  if (!outcome) std::cerr << "bygone-vm: " << outcome.error().text() << "\n";
  return outcome ? 0 : 1;
}

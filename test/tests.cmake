# What the glob of CMakeLists.txt does not know: extra sources, labels, tests that are not one C file. One section per folder.

# ---- model: the float64 reference, and checkpoints made by Hugging Face transformers ----
foreach(stem reference golden)
  target_sources(test_model_${stem} PRIVATE ${CMAKE_SOURCE_DIR}/test/reference/transformer_ref.c)
  target_compile_options(test_model_${stem} PRIVATE ${ATOLL_WARNINGS})
endforeach()
set_tests_properties(model.golden PROPERTIES LABELS golden)

# ---- sim: the protocol machines under a simulated network and disks (test/sim/sim.h) ----
file(GLOB sim_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/sim/*.c)
set(sim_machines outer/round outer/recovery outer/ledger outer/members outer/schedule worker/sync_machine worker/follow)
list(TRANSFORM sim_machines PREPEND ${CMAKE_SOURCE_DIR}/)
list(TRANSFORM sim_machines APPEND .c)
add_executable(sim ${sim_sources} ${sim_machines})
target_include_directories(sim PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/test)
target_compile_options(sim PRIVATE ${ATOLL_WARNINGS})
add_test(NAME sim.seeds COMMAND sim --seeds 1..2500 --statistics)
add_test(NAME sim.regressions COMMAND sim --regressions ${CMAKE_SOURCE_DIR}/test/sim/regressions.txt)
add_test(NAME sim.planted COMMAND ${CMAKE_SOURCE_DIR}/test/sim/planted.sh ${CMAKE_SOURCE_DIR} ${CMAKE_C_COMPILER})
set_tests_properties(sim.seeds sim.regressions sim.planted PROPERTIES LABELS sim TIMEOUT 600)

# ---- process: real processes over real links (test/process/*.sh), and what they need ----
add_executable(sequential_ref ${CMAKE_SOURCE_DIR}/test/reference/sequential_ref.c)
target_compile_options(sequential_ref PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(sequential_ref PRIVATE atoll_outer)
add_executable(process_peer ${CMAKE_SOURCE_DIR}/test/process/peer.c ${CMAKE_SOURCE_DIR}/test/process/peer_member.c)
target_compile_options(process_peer PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(process_peer PRIVATE atoll_outer)
target_link_options(process_peer PRIVATE -Wl,--wrap=wire_encode) # peer.c says other protocol versions
add_executable(process_proxy ${CMAKE_SOURCE_DIR}/test/process/proxy.c ${CMAKE_SOURCE_DIR}/test/process/proxy_line.c)
target_compile_options(process_proxy PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(process_proxy PRIVATE atoll_comms)
function(atoll_process_test name)
  add_test(NAME process.${name} COMMAND ${CMAKE_SOURCE_DIR}/test/process/${name}.sh ${ARGN})
  set_tests_properties(process.${name} PROPERTIES LABELS process TIMEOUT 600 SKIP_RETURN_CODE 77 RUN_SERIAL TRUE)
endfunction()
if(ATOLL_SANITIZE STREQUAL "thread")
  atoll_process_test(two_workers_tsan $<TARGET_FILE:atoll>)
else()
  atoll_process_test(equality $<TARGET_FILE:atoll> $<TARGET_FILE:sequential_ref>)
  atoll_process_test(admission $<TARGET_FILE:atoll> $<TARGET_FILE:process_peer> $<TARGET_FILE:sequential_ref>)
  atoll_process_test(dropout $<TARGET_FILE:atoll>)
  atoll_process_test(restart $<TARGET_FILE:atoll>)
  atoll_process_test(machines $<TARGET_FILE:atoll> $<TARGET_FILE:process_peer>)
  atoll_process_test(proxy $<TARGET_FILE:atoll> $<TARGET_FILE:process_proxy>)
  atoll_process_test(faults_net $<TARGET_FILE:atoll> $<TARGET_FILE:process_proxy>)
  atoll_process_test(faults_peers $<TARGET_FILE:atoll> $<TARGET_FILE:process_peer>)
  atoll_process_test(faults_worker $<TARGET_FILE:atoll> $<TARGET_FILE:process_proxy>)
  atoll_process_test(faults_worker_disk $<TARGET_FILE:atoll>)
  atoll_process_test(commands $<TARGET_FILE:atoll>)
  atoll_process_test(report $<TARGET_FILE:atoll>)
  atoll_process_test(quickstart $<TARGET_FILE:atoll>)
endif()

# ---- fuzz: hostile bytes (test/fuzz/fuzz.h). test/fuzz/STEM_fuzz.c becomes the test fuzz.STEM: replay_STEM over test/fuzz/corpus/STEM.
# With clang's libFuzzer (preset fuzz, test/fuzz/run.sh) it becomes the fuzzer fuzz_STEM instead. ----
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/fuzz/*_fuzz.c)
add_custom_target(fuzz)
foreach(source ${fuzz_sources})
  get_filename_component(stem ${source} NAME_WE)
  string(REGEX REPLACE "_fuzz$" "" stem ${stem})
  if(ATOLL_SANITIZE MATCHES "fuzzer")
    set(target fuzz_${stem})
    add_executable(${target} ${source} ${CMAKE_SOURCE_DIR}/test/fuzz/fuzz.c)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    set(target replay_${stem})
    add_executable(${target} ${source} ${CMAKE_SOURCE_DIR}/test/fuzz/fuzz.c ${CMAKE_SOURCE_DIR}/test/fuzz/replay.c)
    add_test(NAME fuzz.${stem} COMMAND ${target} ${CMAKE_SOURCE_DIR}/test/fuzz/corpus/${stem})
    set_tests_properties(fuzz.${stem} PROPERTIES LABELS fuzz-replay TIMEOUT 300)
  endif()
  add_dependencies(fuzz ${target})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/test)
  target_compile_options(${target} PRIVATE ${ATOLL_WARNINGS})
  target_link_libraries(${target} PRIVATE atoll_worker)
endforeach()
file(GLOB seed_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/fuzz/seeds_*.c)
add_executable(make_seeds ${CMAKE_SOURCE_DIR}/test/fuzz/make_seeds.c ${CMAKE_SOURCE_DIR}/test/fuzz/fuzz.c ${seed_sources})
target_include_directories(make_seeds PRIVATE ${CMAKE_SOURCE_DIR}/test)
target_compile_options(make_seeds PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(make_seeds PRIVATE atoll_worker PkgConfig::CMOCKA)
if(ATOLL_SANITIZE MATCHES "fuzzer") # the machines compare small numbers all the time: watching that makes them ten times slower
  set_property(SOURCE outer/ledger.c outer/members.c outer/recovery.c outer/round.c worker/follow.c worker/sync_machine.c
                      test/fuzz/recovery_fuzz.c test/fuzz/round_fuzz.c test/fuzz/sync_fuzz.c
               PROPERTY COMPILE_OPTIONS -fno-sanitize-coverage=trace-cmp)
endif()

# ---- structure: who includes whom, and the purity of the protocol ----
if(NOT ATOLL_SANITIZE) # sanitized objects reference the sanitizer's run-time
  add_test(NAME layering COMMAND ${CMAKE_SOURCE_DIR}/test/layering.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(layering PROPERTIES LABELS unit)
endif()

# ---- model: the protocol in Promela, searched exhaustively ----
add_test(NAME model.spin COMMAND ${CMAKE_SOURCE_DIR}/test/model/run.sh)
set_tests_properties(model.spin PROPERTIES LABELS model TIMEOUT 1500 SKIP_RETURN_CODE 77)

# What the glob of CMakeLists.txt does not know: extra sources, labels, tests that are not one C file. One section per folder.

# ---- model: the float64 reference, and checkpoints made by Hugging Face transformers ----
foreach(stem reference golden)
  target_sources(test_model_${stem} PRIVATE ${CMAKE_SOURCE_DIR}/test/reference/transformer_ref.c)
  target_compile_options(test_model_${stem} PRIVATE ${ATOLL_WARNINGS})
endforeach()
set_tests_properties(model.golden PROPERTIES LABELS golden)

# ---- process: real processes over real links (test/process/*.sh), and what they need ----
add_executable(sequential_ref ${CMAKE_SOURCE_DIR}/test/reference/sequential_ref.c)
target_compile_options(sequential_ref PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(sequential_ref PRIVATE atoll_outer)
add_executable(process_peer ${CMAKE_SOURCE_DIR}/test/process/peer.c)
target_compile_options(process_peer PRIVATE ${ATOLL_WARNINGS})
target_link_libraries(process_peer PRIVATE atoll_comms)
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
  atoll_process_test(machines $<TARGET_FILE:atoll> $<TARGET_FILE:process_peer>)
  atoll_process_test(proxy $<TARGET_FILE:atoll> $<TARGET_FILE:process_proxy>)
  atoll_process_test(commands $<TARGET_FILE:atoll>)
  atoll_process_test(report $<TARGET_FILE:atoll>)
  atoll_process_test(quickstart $<TARGET_FILE:atoll>)
endif()

# ---- structure: who includes whom, and the purity of the protocol ----
if(NOT ATOLL_SANITIZE) # sanitized objects reference the sanitizer's run-time
  add_test(NAME layering COMMAND ${CMAKE_SOURCE_DIR}/test/layering.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(layering PROPERTIES LABELS unit)
endif()

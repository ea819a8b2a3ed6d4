#!/usr/bin/env bash
# commands.sh ATOLL: what each command answers: help, mistakes (exit code and words), numbers for people and as JSON, the exported model.
source "$(dirname "$0")/lib.sh"
test_begin commands "$@"
QUIET=1
cd "$WORK"

make_corpus corpus.txt 60000 1
make_corpus held_out.txt 6000 2
cat >run.yaml <<YAML
name: tiny
model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt]}
inner: {lr: 3e-3, warmup_steps: 4, steps: 60, batch_per_worker: 2, threads: 1}
sync: {every_steps: 10, fragment_layers: 1, overlap_steps: 1}
eval: {every_steps: 20, windows: 8}
workers: 4
YAML

# ---- a live run for later, long enough not to end by itself ----
start live "$ATOLL" train run.yaml --dir live --workers 2 --set inner.steps=1000000 --set eval.every_steps=0 --set link.up=1Mbit/s
live_pid=$PID

# ---- help and mistakes ----
for command in train outer worker status token drain check eval sample report bench; do
    for flag in --help -h; do
        run_command 10 help "$ATOLL" "$command" "$flag"
        equal "$command $flag: exit code" 0 "$EXIT_CODE"
        says "$command $flag says how it is used" help.out "^usage: atoll $command"
        check "$command $flag: nothing on stderr" test ! -s help.err
    done
    refused "$command: unknown option" 64 "atoll $command: unknown option --bogus" unknown "$ATOLL" "$command" --bogus
    says "help names $command" <("$ATOLL" help) "^  $command "
done
for arguments in help --help -h version --version; do
    run_command 10 top "$ATOLL" "$arguments"
    equal "atoll $arguments: exit code" 0 "$EXIT_CODE"
done
says "version names the BLAS core" top.out "core [A-Za-z]"
says "version names what makes f32 products" top.out "^products: f32 \\([A-Z][A-Za-z0-9-]+\\)$"
says "version names what makes bf16 products" top.out "^bf16 products: [a-zA-Z]"
refused "no command" 64 "^usage: atoll COMMAND" none "$ATOLL"
refused "unknown command" 64 "^atoll: 'trian' is no command \(did you mean 'train'\?\)$" trian "$ATOLL" trian
refused "far from any command" 64 "'xyzzyx' is no command; .atoll help. lists them" xyzzyx "$ATOLL" xyzzyx
refused "misspelled option" 64 "unknown option --wrokers \(did you mean --workers\?\)" wrokers "$ATOLL" train --wrokers 3 run.yaml
refused "no run file" 64 "RUN.yaml is missing" no-file "$ATOLL" train
refused "one word too many" 64 "'extra' is one word too many" extra "$ATOLL" train run.yaml extra
refused "65 workers" 64 "'65' is not a whole number from 1 to 64" many "$ATOLL" train run.yaml --workers 65
refused "worker without --join" 64 "--join TOKEN is missing; paste the line that .atoll outer. printed" no-join "$ATOLL" worker
refused "garbage for a token" 64 "'garbage' is neither a token .* nor a file" garbage "$ATOLL" worker --join garbage --dir garbage-worker
check "a refused worker leaves no directory" test ! -e garbage-worker
refused "token without create" 64 "expected .atoll token create DIR" mint "$ATOLL" token mint live

# ---- the run file ----
refused "no such run file" 78 "cannot open absent.yaml" absent "$ATOLL" train absent.yaml
refused "unknown key" 78 "unknown key .did you mean 'sync'" key "$ATOLL" train run.yaml --set syn.every_steps=3
sed 's/every_steps: 10/every_stesp: 10/; s/layers: 2/layers: two/' run.yaml >wrong.yaml
for command in check "train --dir no-run" "outer --dir no-run"; do
    refused "$command: errors of the run file" 78 "wrong.yaml:5:8: .*every_stesp: unknown key .did you mean 'every_steps'" wrong "$ATOLL" $command wrong.yaml
    says "$command: all errors in one go" wrong.err "wrong.yaml:2:17: .*two"
done
sed 's/held_out.txt/nope.txt/' run.yaml >no-text.yaml
refused "missing text" 78 "no-text.yaml:3:[0-9]+: data.val: no file matches 'nope.txt' in $WORK \\(put the text there, or name another\\)" no-text "$ATOLL" train no-text.yaml --dir no-run
refused "missing text: check" 78 "no-text.yaml:3:[0-9]+: data.val: no file matches 'nope.txt' in $WORK" no-text "$ATOLL" check no-text.yaml
refused "missing text by --set" 78 "data.train=\[nope/\*.txt\]: no file matches '$WORK/nope/\*.txt'" nope "$ATOLL" train run.yaml --set 'data.train=[nope/*.txt]' --dir no-run
check "a refused run leaves no directory" test ! -e no-run
"$ATOLL" check --print-defaults >defaults.yaml
holds "the defaults have comments" "$(grep -c '#' defaults.yaml) > 40"
run_command 10 defaults "$ATOLL" check defaults.yaml --set 'data.train=[corpus.txt]'
equal "check takes its own defaults" 0 "$EXIT_CODE"
says "check says what it comes to" defaults.out "^model +[0-9]+ parameters"
says "check says what a step takes" defaults.out "^step +memory [0-9.]+ MB: parameters, gradients and moments [0-9.]+ MB, activations "
equal "one thread has work" 0 "$(grep -c '^threads ' defaults.out)"
run_command 10 idle "$ATOLL" check defaults.yaml --set 'data.train=[corpus.txt]' --set inner.threads=17 --set model.recompute=block
says "check says who has no work" idle.out "^threads +16 of 17 have work: a micro-batch of 16 windows is 16 units$"
says "check says when rounds close" defaults.out "^rounds +close with all live workers$"
says "check says when fragments merge" defaults.out "^merges +1 step after each send, exactly$"
run_command 10 quorum "$ATOLL" check defaults.yaml --set 'data.train=[corpus.txt]' --set workers=5 --set sync.overlap_steps=auto \
    --set sync.quorum=50% --set sync.grace=2s --set sync.min_workers=2
says "check counts a quorum" quorum.out "^rounds +close with 3 of 5 workers \(50% of the live ones\), after a grace of 2.00 s; with fewer than 2 connected they stop$"
says "check says how long training goes on" quorum.out "^merges +when the round has closed; training waits for it 99 steps after the send$"
says "check says what still counts" quorum.out "^late ones +count up to 1000 versions behind$"
"$ATOLL" check run.yaml --print-effective >effective.yaml
run_command 10 effective "$ATOLL" check effective.yaml --json
equal "check takes its own effective file" 0 "$EXIT_CODE"
"$ATOLL" check run.yaml --json >check.json
equal "and it is the same run" "$(jq .keys_hash check.json)" "$(jq .keys_hash effective.out)"
equal "check --json: a step's memory" true "$(jq '.step_memory | .peak_bytes == .state_bytes + .activation_bytes + .product_bytes' check.json)"
equal "check --json: the fragments are the model" "$(jq .parameters check.json)" "$(jq '[.fragments[].parameters] | add' check.json)"

# ---- train: directories, --workers, --json ----
for n in 1 2 3; do
    run_command 30 "train-$n" "$ATOLL" train run.yaml --workers 2 --json --quiet
    equal "train $n: exit code" 0 "$EXIT_CODE"
    check "train $n: nothing on stderr with --quiet but where it is" test "$(grep -vc '^run tiny in' "train-$n.err")" = 0
done
for directory in runs/tiny runs/tiny-2 runs/tiny-3; do
    check "default directories are numbered: $directory" test -s $directory/outer/model/model.safetensors
done
check "and no more" test ! -e runs/tiny-4
equal "--workers" "2 2" "$(jq -r '.runs[0].workers, (.runs[0].workers_table | length)' train-1.out | xargs)"
check "--workers: no third worker" test ! -e runs/tiny/worker-2
equal "--json: the run" "tiny 60 true" "$(jq -r '.runs[0] | .run, .steps, .loss_final' train-1.out | xargs)"
refused "a directory that holds a run" 78 "runs/tiny holds an earlier run; choose another --dir, or remove it" taken "$ATOLL" train run.yaml --dir runs/tiny
run_command 30 people "$ATOLL" train run.yaml --workers 1 --dir people
says "train: progress lines or the run, on stderr" people.err "^run tiny in people: 1 worker, 60 steps"
says "train: held-out loss for people" people.out "held-out loss +[0-9.]+ nats per token, [0-9.]+ bits per byte \(step 60, final model\)"
says "train: where the model is" people.out "^model: people/outer/model"

# ---- the model ----
model=runs/tiny/outer/model
python3 - $model <<'PYTHON' || fail "the exported model is a whole Qwen3 in safetensors"
import json, struct, sys
data = open(sys.argv[1] + "/model.safetensors", "rb").read()
length = struct.unpack("<Q", data[:8])[0]
assert length % 8 == 0
header = json.loads(data[8:8 + length])
assert header.pop("__metadata__") == {"format": "pt"}
width, heads, kv, head_dim, ffn, vocab, layers = 32, 4, 2, 8, 64, 256, 2
want = {"model.embed_tokens.weight": [vocab, width], "model.norm.weight": [width]}
for l in range(layers):
    p = f"model.layers.{l}."
    want |= {p + "input_layernorm.weight": [width], p + "post_attention_layernorm.weight": [width],
             p + "self_attn.q_proj.weight": [heads * head_dim, width], p + "self_attn.k_proj.weight": [kv * head_dim, width],
             p + "self_attn.v_proj.weight": [kv * head_dim, width], p + "self_attn.o_proj.weight": [width, heads * head_dim],
             p + "self_attn.q_norm.weight": [head_dim], p + "self_attn.k_norm.weight": [head_dim],
             p + "mlp.gate_proj.weight": [ffn, width], p + "mlp.up_proj.weight": [ffn, width], p + "mlp.down_proj.weight": [width, ffn]}
assert {name: t["shape"] for name, t in header.items()} == want
end = 0
for name, t in sorted(header.items(), key=lambda one: one[1]["data_offsets"]):
    count = 1
    for n in t["shape"]: count *= n
    assert t["dtype"] == "F32" and t["data_offsets"] == [end, end + 4 * count], name
    values = struct.unpack(f"<{count}f", data[8 + length + end:8 + length + end + 4 * count])
    assert all(abs(v) < 100 for v in values) and any(v != 0 for v in values), name
    end += 4 * count
assert 8 + length + end == len(data)
config = json.load(open(sys.argv[1] + "/config.json"))
for key, value in {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": vocab, "hidden_size": width,
                   "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
                   "head_dim": head_dim, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
                   "tie_word_embeddings": True, "attention_bias": False, "torch_dtype": "float32", "hidden_act": "silu"}.items():
    assert config[key] == value and type(config[key]) is type(value), (key, config[key])
PYTHON

# ---- eval ----
run_command 20 eval "$ATOLL" eval $model --data held_out.txt --windows 8 --json
equal "eval --json: exit code" 0 "$EXIT_CODE"
equal "eval --json: windows, tokens" "8 256" "$(jq -r '.windows, .tokens' eval.out | xargs)"
for pair in "loss loss" "bits_per_byte bits_per_byte"; do
    read -r of_eval of_run <<<"$pair"
    holds "eval gives the run's final $of_run" "($(jq .$of_eval eval.out) - $(jq .runs[0].$of_run train-1.out)) ^ 2 < 1e-8"
done
run_command 20 eval-text "$ATOLL" eval $model --data held_out.txt --windows 8
says "eval for people: the same numbers" eval-text.out "^loss $(jq -r .loss eval.out | xargs printf %.4f) nats per token, .* over 8 windows \(256 tokens\)"
run_command 20 eval-all "$ATOLL" eval $model --data held_out.txt --json
equal "eval of all windows" "$((($(stat -c %s held_out.txt) - 1) / 32))" "$(jq .windows eval-all.out)"
refused "eval without --data" 64 "--data GLOB is needed" no-data "$ATOLL" eval $model
refused "eval: no such text" 78 "no file matches 'nope.txt' in .; put the text there, or name another in the run file or with --data or --val" no-text "$ATOLL" eval $model --data nope.txt
refused "eval: no such model" 74 "cannot open nope/config.json" no-model "$ATOLL" eval nope --data held_out.txt

# ---- sample ----
for name in one:3 two:3 three:4; do
    run_command 20 "sample-${name%:*}" "$ATOLL" sample $model --prompt "the sea" --length 100 --seed "${name#*:}"
    equal "sample: exit code" 0 "$EXIT_CODE"
done
check "sample: the seed decides" cmp -s sample-one.out sample-two.out
check "sample: another seed, another text" test "$(cat sample-one.out)" != "$(cat sample-three.out)"
equal "sample: prompt, text, line feed" 108 "$(stat -c %s sample-one.out)"
equal "sample: the prompt first" "the sea" "$(head -c 7 sample-one.out)"
for seed in 1 2; do
    "$ATOLL" sample $model --prompt t --temperature 0 --length 60 --seed $seed >"greedy-$seed"
done
check "sample: temperature 0 needs no luck" cmp -s greedy-1 greedy-2
refused "sample: empty prompt" 64 "--prompt is empty" empty "$ATOLL" sample $model --prompt ''

# ---- damaged models ----
damage() { rm -rf damaged && cp -r $model damaged; }
damage && truncate -s -100 damaged/model.safetensors
refused "model cut short" 65 "damaged/model.safetensors: the tensors are [0-9]+ bytes, but the file holds [0-9]+" cut "$ATOLL" eval damaged --data held_out.txt
damage && truncate -s 5 damaged/model.safetensors
refused "model of five bytes" 65 "damaged/model.safetensors" five "$ATOLL" sample damaged
damage && printf '\377\377\377\377\377\377\377\177' | dd of=damaged/model.safetensors conv=notrunc status=none
refused "absurd header length" 65 "damaged/model.safetensors" absurd "$ATOLL" sample damaged
damage && sed -i 's/model.norm.weight/model.nrom.weight/' damaged/model.safetensors
refused "tensor of another name" 65 "damaged/model.safetensors: .*model.n(or|ro)m.weight" renamed "$ATOLL" sample damaged
damage && echo '{' >damaged/config.json
refused "config.json is no JSON" 65 "damaged/config.json:2:0: not JSON" config "$ATOLL" sample damaged
damage && sed -i 's/"hidden_size": 32/"hidden_size": 64/' damaged/config.json
refused "config.json of another shape" 65 "damaged/model.safetensors: .*(shape|expected)" shape "$ATOLL" sample damaged

# ---- the live run ----
live_trains() { "$ATOLL" status live --json | jq -e '[.workers[].step] | length == 2 and min > 2'; }
wait_for 30 "two workers that train" live_trains
run_command 20 status "$ATOLL" status live --once
equal "status --once: exit code" 0 "$EXIT_CODE"
says "status: the run" status.out "^run tiny \([0-9a-f]{16}\): training, step [0-9]+ of 1000000 committed"
says "status: the columns" status.out "^slot +worker +state +lag +step +tokens/s +loss +held-out +wire up +wire down +wait +seen +last error$"
for k in 0 1; do says "status: worker $k" status.out "^$k +worker-[01] +[a-z]+( up)? +[0-9]+ +[0-9]+ "; done
run_command 20 status-json "$ATOLL" status live/outer --json
equal "status --json: exit code" 0 "$EXIT_CODE"
equal "status --json" "tiny 1000000 true 2 3" "$(jq -r '.name, .steps, .started, (.workers | length), (.workers[0].versions | length)' status-json.out | xargs)"
refused "token create --ttl 0s" 64 "atoll token create: a token lives 1s to 366d and has 1 to 1000000 uses" token-0s "$ATOLL" token create live --ttl 0s
run_command 20 token "$ATOLL" token create live --ttl 1h --uses 1
equal "token create: exit code" 0 "$EXIT_CODE"
says "token create: a line to paste" token.out "^atoll worker --join atoll1\.[A-Za-z0-9_-]{40,}$"
run_command 20 token-json "$ATOLL" token create live --json
check "token create --json" jq -e '.token | startswith("atoll1.")' token-json.out >/dev/null
run_command 20 token-list "$ATOLL" token list live
says "token list: a token that is used up" token-list.out "^[0-9a-f]{16}  used up  2 of 2 +-$"
says "token list: a token that is not used" token-list.out "^[0-9a-f]{16}  live +0 of 1 +[0-9]+[hm]( [0-9]+[ms])?$"
token_id=$("$ATOLL" token list live --json | jq -r '.tokens[] | select(.uses == 1) | .id')
run_command 20 token-revoke "$ATOLL" token revoke "$token_id" live
says "token revoke: the token" token-revoke.out "^token $token_id is revoked; who registered with it stays \(0 of 1 uses\)$"
"$ATOLL" token list live >token-list.out
says "token list: a revoked token" token-list.out "^$token_id  revoked  0 of 1 +-$"
refused "a revoked token" 77 "this token was revoked; ask for a new one: atoll token create" late "$ATOLL" worker --join "$(grep -o 'atoll1.*' token.out)" --dir late
refused "token revoke: no such id" 64 "no token's id begins with 0123456789abcdef" no-id "$ATOLL" token revoke 0123456789abcdef live
refused "drain: no such worker" 64 "this run has no worker 'nobody': atoll status shows them" nobody "$ATOLL" drain nobody live
refused "drain: no such slot" 64 "this run has no worker in slot 7: atoll status shows them" slot-7 "$ATOLL" drain 7 live --revoke
refused "a second outer on the directory" 75 "live/outer is in use by process [0-9]+ .live/outer/lock.: stop it, or choose another --dir" second-outer "$ATOLL" outer run.yaml --dir live/outer
refused "a second worker on the directory" 75 "live/worker-0 is in use by process [0-9]+ .live/worker-0/lock.: stop it, or choose another --dir" second-worker "$ATOLL" worker --join live/outer/join.token --dir live/worker-0
refused "a second train on the directory" 78 "live holds an earlier run" second-train "$ATOLL" train run.yaml --dir live
gone "$live_pid" && fail "the live run is harmed by none of these"
kill -TERM "$live_pid"
wait_exit "$live_pid" 20 "the live run"
equal "the live run stops: exit code" 0 "$EXIT_CODE"
refused "status of a run that is over" 69 "the outer does not run: no outer has answered for [0-9.]+ s at 127.0.0.1:[0-9]+" over "$ATOLL" status live
refused "token of a run that is over" 69 "the outer does not run" token-over "$ATOLL" token create live
refused "status of no run" 74 "corpus: no outer's run directory" no-run "$ATOLL" status corpus

# ---- an outer that gives up ----
refused "an outer to which nobody comes" 75 "^atoll outer: no worker has come$" nobody-comes \
    "$ATOLL" outer run.yaml --dir nobody-comes --listen 127.0.0.1:0 --patience 1s
start alone "$ATOLL" outer run.yaml --dir alone --listen 127.0.0.1:0 --patience 5s --set workers=1 --set inner.steps=1000000
alone_pid=$PID
wait_for 20 "the join token" test -s alone/join.token
start alone-worker "$ATOLL" worker --join alone/join.token --dir alone-worker
worker_pid=$PID
wait_for 30 "a commit" has_event alone/log.jsonl commit
kill -TERM "$worker_pid"
wait_exit "$alone_pid" 20 "the outer alone"
equal "an outer whose workers are gone: exit code" 75 "$EXIT_CODE"
equal "an outer whose workers are gone: its last line" "atoll outer: all workers are gone" "$(tail -n 1 alone.err)"
test_end

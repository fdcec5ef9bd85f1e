package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary answer to every name of the program, so that
// scripts run the real main, exit codes and signals included.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tritonops":       main,
		"imgapiadm":       main,
		"triton-multidc":  main,
		"sdc-ufds-m2s":    main,
		"sdc-healthcheck": main,
	})
}

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands a
// script has these:
//
//	code N PROGRAM ARGS...      run, want exit code N; stdout and stderr as with exec
//	tty N DIALOGUE PROGRAM ...  run at a terminal (stdin and stderr), want exit code N;
//	                            each line of the file DIALOGUE is "text => keys": once
//	                            the text has appeared, the keys are typed (Go escapes,
//	                            \r for return, \x03 for Ctrl-C). The screen is in the
//	                            file screen afterwards; stdout as with exec
//	json FILE PATH [WANT]       the value at PATH (a.b.0.c, len for a length) in a JSON
//	                            file, or in stdout/stderr, is WANT; without WANT, exists
//	shape FILE TO               write the fields of a JSON answer and their types, for cmp
//	norm FILE                   rewrite FILE: times, durations, uuids, ports and the work
//	                            directory become fixed words, for cmp
//	waitfor FILE [REGEXP]       wait up to 30 s until FILE exists and matches
//	mode FILE OCTAL             the permission bits of FILE are OCTAL
//
// and the condition [peer:NAME]: the peer program is there. Write
// "[!peer:mls] skip"; where peers are required that fails instead.
//
// The environment is the same everywhere: no configuration of whoever runs the
// test, UTC, the C locale, a dumb terminal, TRITONOPS_ROOT=$WORK/root.
// TRITONOPS_UPDATE_SCRIPTS=1 rewrites the expectations that cmp compares.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/script",
		UpdateScripts:       os.Getenv("TRITONOPS_UPDATE_SCRIPTS") == "1",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setUp,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":    cmdCode,
			"tty":     cmdTTY,
			"json":    cmdJSON,
			"norm":    cmdNorm,
			"shape":   cmdShape,
			"waitfor": cmdWaitFor,
			"mode":    cmdMode,
		},
	})
}

func setUp(env *testscript.Env) error {
	root := env.WorkDir + "/root"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, kv := range [][2]string{
		{"TRITONOPS_ROOT", root},
		{"HOME", env.WorkDir + "/home"},
		{"TERM", "dumb"},
		{"TZ", "UTC"},
		{"LC_ALL", "C"},
		{"TRITONOPS_PEERS", os.Getenv("TRITONOPS_PEERS")},
		{"PATH", env.Getenv("PATH") + ":" + os.Getenv("TRITONOPS_PEERS") + "/.bin"},
	} {
		env.Setenv(kv[0], kv[1])
	}
	return os.MkdirAll(env.WorkDir+"/home", 0o755)
}

//go:build !illumos && !solaris

package ui

func addSurvey(m map[string]func(tty) asker) { m["survey"] = newSurveyor }

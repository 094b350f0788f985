//go:build !linux && !darwin && !freebsd

package main

import "os"

// terminalWidth is a guess that fits everywhere.
func terminalWidth(*os.File) int { return 80 }

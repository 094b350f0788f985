package login

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os/exec"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

var qrTexts = []string{
	"A", "https://www.google.com/device", "https://as.test/device?user_code=WDJB-MJHT", "HTTPS://AS.TEST/D",
	"https://login.microsoftonline.com/common/oauth2/deviceauth",
	strings.Repeat("x", 17), strings.Repeat("x", 18), strings.Repeat("x", 106), strings.Repeat("x", 107), strings.Repeat("0123456789", 13) + "abcd",
}

// A code that a terminal of 80 columns does not hold is worse than none.
func TestQRFitsATerminal(t *testing.T) {
	for length, want := range map[int]bool{1: true, 134: true, 135: false, 5000: false} {
		drawn, ok := qrText(strings.Repeat("x", length))
		if ok != want {
			t.Errorf("%d bytes: a code is shown: %t", length, ok)
		}
		lines := strings.Split(strings.TrimSuffix(drawn, "\n"), "\n")
		if ok && (len(lines) > 25 || strings.Count(lines[0], "█") != 2*len(lines)-1) {
			t.Errorf("%d bytes: %d lines, the first is %q", length, len(lines), lines[0])
		}
	}
}

// Where blocks would be shown as garbage, the address and the code are enough.
func TestTerminalsThatDrawBlocks(t *testing.T) {
	for _, tt := range []struct {
		name, goos string
		env        map[string]string
		want       bool
	}{
		{"UTF-8", "linux", map[string]string{"LANG": "en_GB.UTF-8", "TERM": "xterm"}, true},
		{"without a language", "linux", map[string]string{"LANG": "C.utf8", "TERM": "xterm"}, true},
		{"colours are not wanted", "linux", map[string]string{"LANG": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1"}, true},
		{"nothing is said", "linux", map[string]string{"TERM": "xterm"}, true},
		{"ASCII", "linux", map[string]string{"LANG": "C", "TERM": "xterm"}, false},
		{"LC_ALL counts", "linux", map[string]string{"LC_ALL": "POSIX", "LANG": "en_GB.UTF-8", "TERM": "xterm"}, false},
		{"LC_CTYPE before LANG", "darwin", map[string]string{"LC_CTYPE": "UTF-8", "LANG": "C", "TERM": "xterm"}, true},
		{"Latin-1", "linux", map[string]string{"LANG": "de_DE.ISO-8859-1", "TERM": "xterm"}, false},
		{"a terminal of glass", "linux", map[string]string{"LANG": "C.UTF-8", "TERM": "vt100"}, false},
		{"no terminal to speak of", "linux", map[string]string{"LANG": "C.UTF-8", "TERM": "dumb"}, false},
		{"the old console", "windows", nil, false},
		{"the new console", "windows", map[string]string{"WT_SESSION": "1"}, true},
	} {
		if got := drawsBlocks(tt.goos, func(name string) string { return tt.env[name] }); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// A reader that others have written reads it from a picture of the terminal.
func TestQRReal(t *testing.T) {
	zbar, err := exec.LookPath("zbarimg")
	realparts.Require(t, "a reader of QR codes (zbar-tools)", err)
	for _, text := range qrTexts {
		drawn, _ := qrText(text)
		cmd := exec.Command(zbar, "--quiet", "--raw", "-")
		cmd.Stdin = bytes.NewReader(picture(t, drawn))
		got, err := cmd.Output()
		if strings.TrimSuffix(string(got), "\n") != text {
			t.Errorf("%q reads as %q, %v", text, got, err)
		}
	}
}

// picture draws what a terminal shows: the text has half blocks, and white is drawn.
func picture(t *testing.T, text string) []byte {
	t.Helper()
	const scale = 8
	text = strings.NewReplacer("\x1b[40;97m", "", "\x1b[0m", "").Replace(strings.TrimSuffix(text, "\n"))
	lines := strings.Split(text, "\n")
	img := image.NewGray(image.Rect(0, 0, scale*len([]rune(lines[0])), scale*2*len(lines)))
	for y, line := range lines {
		for x, c := range []rune(line) {
			for half := range 2 {
				white := c == '█' || c == '▀' && half == 0 || c == '▄' && half == 1
				for i := range scale * scale {
					if white {
						img.SetGray(x*scale+i%scale, (2*y+half)*scale+i/scale, color.Gray{255})
					}
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

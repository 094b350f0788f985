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

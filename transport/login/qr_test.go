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
	"", "A", "https://www.google.com/device", "https://as.test/device?user_code=WDJB-MJHT",
	"https://login.microsoftonline.com/common/oauth2/deviceauth", "äöü €",
	strings.Repeat("x", 17), strings.Repeat("x", 18), strings.Repeat("x", 106), strings.Repeat("x", 107), strings.Repeat("0123456789", 13) + "abcd",
}

// The code is read back, by the steps of the standard in reverse.
func TestQRReadsBack(t *testing.T) {
	for _, text := range qrTexts {
		q, ok := newQR(text)
		if !ok {
			t.Fatalf("%q does not fit", text)
		}
		if got := readQR(t, q); got != text {
			t.Errorf("%q reads as %q", text, got)
		}
	}
	if _, ok := newQR(strings.Repeat("x", 135)); ok {
		t.Error("too long a text got a code")
	}
}

func FuzzQR(f *testing.F) {
	for _, text := range qrTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if q, ok := newQR(text); ok != (len(text) <= 134) || ok && readQR(t, q) != text {
			t.Errorf("%q is not what its code says", text)
		}
	})
}

// qrFormats is the table of the standard for level L, by mask.
var qrFormats = []string{
	"111011111000100", "111001011110011", "111110110101010", "111100010011101",
	"110011000101111", "110001100011000", "110110001000001", "110100101110110",
}

func readQR(t *testing.T, q *qr) string {
	t.Helper()
	var format [2]strings.Builder
	bit := func(b *strings.Builder, row, col int) {
		if q.dark[row][col] {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	last := q.size - 1
	for _, at := range [][2]int{{8, 0}, {8, 1}, {8, 2}, {8, 3}, {8, 4}, {8, 5}, {8, 7}, {8, 8}, {7, 8}, {5, 8}, {4, 8}, {3, 8}, {2, 8}, {1, 8}, {0, 8}} {
		bit(&format[0], at[0], at[1])
	}
	for i := range 7 {
		bit(&format[1], last-i, 8)
	}
	for i := range 8 {
		bit(&format[1], 8, last-7+i)
	}
	mask := -1
	for i, f := range qrFormats {
		if format[0].String() == f && format[1].String() == f {
			mask = i
		}
	}
	if mask < 0 {
		t.Fatalf("the format reads %s and %s", &format[0], &format[1])
	}

	var bits []byte
	up := true
	for right := last; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for i := 0; i <= last; i++ {
			row := i
			if up {
				row = last - i
			}
			for _, col := range []int{right, right - 1} {
				if inPattern(q.size, row, col) {
					continue
				}
				b := byte(0)
				if q.dark[row][col] != qrMasks[mask](row, col) {
					b = 1
				}
				bits = append(bits, b)
			}
		}
		up = !up
	}
	v := qrVersions[(q.size-21)/4]
	if len(bits)/8 != v.data+v.check*v.blocks {
		t.Fatalf("size %d has room for %d bytes, want %d", q.size, len(bits)/8, v.data+v.check*v.blocks)
	}
	all := make([]byte, len(bits)/8)
	for i := range all {
		for j := range 8 {
			all[i] = all[i]<<1 | bits[8*i+j]
		}
	}
	var data []byte
	for b := range v.blocks {
		var block []byte
		for i := b; i < len(all); i += v.blocks {
			block = append(block, all[i])
		}
		// The block is a multiple of the generator: zero at each of its roots.
		for root, n := byte(1), 0; n < v.check; n++ {
			sum := byte(0)
			for _, c := range block {
				sum = multiply(sum, root) ^ c
			}
			if sum != 0 {
				t.Fatalf("block %d is damaged", b)
			}
			root = multiply(root, 2)
		}
		data = append(data, block[:len(block)-v.check]...)
	}
	if data[0]>>4 != 4 {
		t.Fatalf("the mode is %d", data[0]>>4)
	}
	n := int(data[0]<<4 | data[1]>>4)
	text := make([]byte, n)
	for i := range text {
		text[i] = data[i+1]<<4 | data[i+2]>>4
	}
	return string(text)
}

// inPattern reports whether a module is not part of the data, by the drawings of the
// standard for versions 1 to 6.
func inPattern(size, row, col int) bool {
	switch {
	case row == 6 || col == 6,
		row <= 8 && col <= 8, row <= 8 && col >= size-8, row >= size-8 && col <= 8:
		return true
	}
	return size > 21 && row >= size-9 && row <= size-5 && col >= size-9 && col <= size-5
}

// A reader that others have written reads it from a picture of the terminal.
func TestQRReal(t *testing.T) {
	zbar, err := exec.LookPath("zbarimg")
	realparts.Require(t, "a reader of QR codes (zbar-tools)", err)
	for _, text := range qrTexts {
		if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c > '~' }) {
			continue // It guesses other encodings than UTF-8. URLs are ASCII.
		}
		q, _ := newQR(text)
		cmd := exec.Command(zbar, "--quiet", "--raw", "-")
		cmd.Stdin = bytes.NewReader(picture(t, q.text()))
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

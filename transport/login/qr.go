package login

import "strings"

// A qr is a QR code (ISO/IEC 18004) of the kind that is enough for a URL: bytes, with
// the lowest level of error correction, because a screen has no scratches, and of
// version 6 at most, which is 41 modules wide.
type qr struct {
	size  int
	dark  [][]bool // by row and column
	fixed [][]bool // not part of the data: patterns and format
}

// qrVersions has the parameters of versions 1 to 6 at error correction level L.
var qrVersions = [...]struct{ data, check, blocks, align int }{
	{19, 7, 1, 0}, {34, 10, 1, 18}, {55, 15, 1, 22}, {80, 20, 1, 26}, {108, 26, 1, 30}, {136, 18, 2, 34},
}

// newQR returns the QR code of text, if it is not too long: 134 bytes.
func newQR(text string) (*qr, bool) {
	for i, v := range qrVersions {
		if len(text)+2 > v.data {
			continue
		}
		q := &qr{size: 21 + 4*i}
		q.dark, q.fixed = grid(q.size), grid(q.size)
		q.drawPatterns(v.align)
		q.drawData(codewords(text, v.data, v.check, v.blocks))
		q.drawBestMask()
		return q, true
	}
	return nil, false
}

func grid(size int) [][]bool {
	g := make([][]bool, size)
	for i := range g {
		g[i] = make([]bool, size)
	}
	return g
}

// set sets a module that is not part of the data.
func (q *qr) set(row, col int, dark bool) {
	if row >= 0 && row < q.size && col >= 0 && col < q.size {
		q.dark[row][col], q.fixed[row][col] = dark, true
	}
}

// drawPatterns draws what a reader looks for.
func (q *qr) drawPatterns(align int) {
	last := q.size - 1
	for i := range q.size { // timing
		q.set(6, i, i%2 == 0)
		q.set(i, 6, i%2 == 0)
	}
	for _, c := range [][2]int{{3, 3}, {3, last - 3}, {last - 3, 3}} { // finders and their margins
		for r := -4; r <= 4; r++ {
			for s := -4; s <= 4; s++ {
				ring := max(r, -r, s, -s)
				q.set(c[0]+r, c[1]+s, ring != 2 && ring != 4)
			}
		}
	}
	for r := -2; r <= 2 && align > 0; r++ {
		for s := -2; s <= 2; s++ {
			q.set(align+r, align+s, max(r, -r, s, -s) != 1)
		}
	}
	q.drawFormat(0) // reserves its place
}

// drawFormat draws the error correction level and the mask, twice.
func (q *qr) drawFormat(mask int) {
	data := 1<<3 | mask // level L
	rest := data << 10
	for i := 14; i >= 10; i-- { // BCH code
		if rest>>i&1 == 1 {
			rest ^= 0x537 << (i - 10)
		}
	}
	bits := (data<<10 | rest) ^ 0x5412
	last := q.size - 1
	for i := range 15 {
		bit := bits>>i&1 == 1
		switch { // around the upper left finder
		case i < 6:
			q.set(i, 8, bit)
		case i < 8:
			q.set(i+1, 8, bit)
		case i == 8:
			q.set(8, 7, bit)
		default:
			q.set(8, 14-i, bit)
		}
		if i < 8 { // beside the other two
			q.set(8, last-i, bit)
		} else {
			q.set(last-14+i, 8, bit)
		}
	}
	q.set(last-7, 8, true)
}

// codewords returns the data and check bytes in the order in which they are drawn.
func codewords(text string, data, check, blocks int) []byte {
	// Mode 4 is bytes; then the length in 8 bits, the text, and an end mark.
	bits := []byte{4<<4 | byte(len(text))>>4}
	carry := byte(len(text)) << 4
	for _, c := range []byte(text) {
		bits = append(bits, carry|c>>4)
		carry = c << 4
	}
	bits = append(bits, carry)
	for pad := byte(0xec); len(bits) < data; pad ^= 0xec ^ 0x11 {
		bits = append(bits, pad)
	}
	// The blocks take turns.
	per := data / blocks
	out := make([]byte, data+check*blocks)
	for b := range blocks {
		block := bits[b*per : (b+1)*per]
		for i, c := range block {
			out[i*blocks+b] = c
		}
		for i, c := range remainder(block, check) {
			out[data+i*blocks+b] = c
		}
	}
	return out
}

// remainder returns n Reed-Solomon check bytes.
func remainder(data []byte, n int) []byte {
	generator := make([]byte, n) // without the leading 1
	generator[n-1] = 1
	for root, i := byte(1), 0; i < n; i++ { // times (x - 2^i)
		for j := range generator {
			generator[j] = multiply(generator[j], root)
			if j+1 < n {
				generator[j] ^= generator[j+1]
			}
		}
		root = multiply(root, 2)
	}
	rest := make([]byte, n)
	for _, c := range data {
		factor := c ^ rest[0]
		rest = append(rest[1:], 0)
		for i, g := range generator {
			rest[i] ^= multiply(g, factor)
		}
	}
	return rest
}

// multiply multiplies in GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1.
func multiply(a, b byte) (product byte) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			product ^= a
		}
		carry := a >> 7
		a = a<<1 ^ carry*0x1d
	}
	return product
}

// drawData draws bits in columns of two, up and down, from the right to the left.
func (q *qr) drawData(data []byte) {
	i := 0
	for right, up := q.size-1, true; right > 0; right, up = right-2, !up {
		if right == 6 { // timing
			right = 5
		}
		for step := range q.size {
			row := step
			if up {
				row = q.size - 1 - step
			}
			for _, col := range []int{right, right - 1} {
				if !q.fixed[row][col] && i < len(data)*8 {
					q.dark[row][col] = data[i/8]>>(7-i%8)&1 == 1
					i++
				}
			}
		}
	}
}

// text returns the code for a terminal. Its colours are set, because a code that is
// light on dark is unreadable for some cameras.
func (q *qr) text() string {
	const black, white, reset, margin = "\x1b[40;97m", "█", "\x1b[0m", 4
	at := func(row, col int) bool {
		return row >= 0 && row < q.size && col >= 0 && col < q.size && q.dark[row][col]
	}
	var b strings.Builder
	for row := -margin; row < q.size+margin; row += 2 { // two rows in a line
		b.WriteString(black)
		for col := -margin; col < q.size+margin; col++ {
			switch upper, lower := at(row, col), at(row+1, col); {
			case upper && lower:
				b.WriteString(" ")
			case upper:
				b.WriteString("▄")
			case lower:
				b.WriteString("▀")
			default:
				b.WriteString(white)
			}
		}
		b.WriteString(reset + "\n")
	}
	return b.String()
}

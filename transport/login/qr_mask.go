package login

// qrMasks say which modules of the data are inverted, so that the code has no large
// areas of one kind and nothing that looks like a finder.
var qrMasks = [...]func(row, col int) bool{
	func(r, c int) bool { return (r+c)%2 == 0 },
	func(r, c int) bool { return r%2 == 0 },
	func(r, c int) bool { return c%3 == 0 },
	func(r, c int) bool { return (r+c)%3 == 0 },
	func(r, c int) bool { return (r/2+c/3)%2 == 0 },
	func(r, c int) bool { return r*c%2+r*c%3 == 0 },
	func(r, c int) bool { return (r*c%2+r*c%3)%2 == 0 },
	func(r, c int) bool { return ((r+c)%2+r*c%3)%2 == 0 },
}

// drawBestMask applies the mask with the lowest penalty.
func (q *qr) drawBestMask() {
	best, lowest := 0, -1
	for mask := range qrMasks {
		q.applyMask(mask)
		if p := q.penalty(); lowest < 0 || p < lowest {
			best, lowest = mask, p
		}
		q.applyMask(mask) // Twice is as it was.
	}
	q.applyMask(best)
}

func (q *qr) applyMask(mask int) {
	for row := range q.size {
		for col := range q.size {
			if !q.fixed[row][col] && qrMasks[mask](row, col) {
				q.dark[row][col] = !q.dark[row][col]
			}
		}
	}
	q.drawFormat(mask)
}

// penalty says how hard the code is to read, by the four rules of the standard.
func (q *qr) penalty() (sum int) {
	column := make([]bool, q.size)
	darks := 0
	for i := range q.size {
		for j := range q.size {
			column[j] = q.dark[j][i]
			if q.dark[i][j] {
				darks++
			}
			if i > 0 && j > 0 { // squares of one kind
				d := q.dark[i][j]
				if q.dark[i-1][j] == d && q.dark[i][j-1] == d && q.dark[i-1][j-1] == d {
					sum += 3
				}
			}
		}
		sum += linePenalty(q.dark[i]) + linePenalty(column)
	}
	percent := darks * 100 / (q.size * q.size)
	return sum + max(percent-50, 50-percent)/5*10
}

// linePenalty is that of a row or column: for runs of one kind, and for what looks
// like a finder beside a margin.
func linePenalty(line []bool) (sum int) {
	run := 1
	for i := 1; i <= len(line); i++ {
		if i < len(line) && line[i] == line[i-1] {
			run++
			continue
		}
		if run >= 5 {
			sum += run - 2
		}
		run = 1
	}
	const finder, width = 0b1011101, 11
	window := 0
	for i, dark := range line {
		window = window << 1 & (1<<width - 1)
		if dark {
			window |= 1
		}
		if i >= width-1 && (window == finder<<4 || window == finder) {
			sum += 40
		}
	}
	return sum
}

# The first layer's activations before each epoch, without (top) and with batch norm (bottom): one picture before the
# activation function, one after it. Reads histograms.csv and activations.csv of this folder; seed 0.
reset
if (!exists("suffix")) suffix = ''
set datafile separator ','
set style fill solid 1 noborder
set tics out nomirror scale 0.6
set border 3 lc rgb '#555555'
set grid ytics lc rgb '#dddddd' lt 1 lw 0.5
set xrange [-5.9:5.9]
set xtics ('−5' -5, '' -4 1, '' -3 1, '' -2 1, '' -1 1, '0' 0, '' 1 1, '' 2 1, '' 3 1, '' 4 1, '5' 5)
set arrow 1 from -5, graph 0 to -5, graph 1 nohead lc rgb '#bbbbbb' dt 2 lw 0.8 back
set arrow 2 from 5, graph 0 to 5, graph 1 nohead lc rgb '#bbbbbb' dt 2 lw 0.8 back
colour(norm) = norm ? 0x1f6fb4 : 0xd9620f
# Rows of the tables that belong to a panel; NaN elsewhere, which gnuplot leaves out.
here(norm, epoch, stage, value) = \
    (column(1) == 0 && column(2) == norm && column(3) == epoch && strcol(4) eq stage) ? value : NaN
do for [stage in 'before after'] {
    # One scale for all panels; after the activation the bar at 0 is cut and its height written, or it would hide the others.
    cut = stage eq 'after'
    stats 'histograms.csv' using \
        (column(1) == 0 && strcol(4) eq stage && !(cut && $5 == 0) ? 100 * $8 : NaN) name 'SHARE' nooutput
    top = 1.3 * SHARE_max
    set yrange [0:top]
    do for [kind in 'svg png'] {
        if (kind eq 'svg') {
            set terminal svg size 1280,640 dynamic font 'DejaVu Sans,Helvetica,sans-serif,13' background rgb 'white' \
                name 'histograms_'.stage
        } else {
            set terminal pngcairo size 1600,800 font 'DejaVu Sans,12' background rgb 'white'
        }
        set output 'histograms-'.stage.'.'.kind.suffix
        set multiplot layout 2,4 margins 0.055,0.99,0.085,0.87 spacing 0.025,0.11 \
            title 'First layer, '.stage.' the activation function — '.subject font ',17'
        do for [norm = 0:1] {
            do for [epoch = 1:4] {
                set title (norm ? 'With' : 'Without').sprintf(' batch norm, before epoch %d', epoch) offset 0,-0.4
                set ylabel (epoch == 1 ? 'share of values, %' : '') offset 1.2,0
                set xlabel (norm ? 'value' : '') offset 0,0.5
                set format y (epoch == 1 ? '%g' : '')
                plot 'histograms.csv' using (here(norm, epoch, stage, 0.5 * ($5 + $6))):(100 * $8):($6 - $5) \
                         with boxes lc rgb colour(norm) notitle, \
                     'activations.csv' using (here(norm, epoch, stage, -5.45)):(100.0 * $6 / $5):(0.6) \
                         with boxes lc rgb '#555555' notitle, \
                     'activations.csv' using (here(norm, epoch, stage, 5.45)):(100.0 * $7 / $5):(0.6) \
                         with boxes lc rgb '#555555' notitle, \
                     'activations.csv' using (here(norm, epoch, stage, -4.8)):(0.93 * top): \
                         (sprintf('mean %.2f, std %.2f', $10, $11)) with labels left font ',10' notitle
            }
        }
        unset multiplot
        unset output
    }
}

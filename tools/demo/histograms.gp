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
pale(norm) = norm ? 0xbcd6ec : 0xf6d3b9
# Rows of the tables that belong to a panel; NaN elsewhere, which gnuplot leaves out.
here(norm, epoch, stage, value) = \
    (column(1) == 0 && column(2) == norm && column(3) == epoch && strcol(4) eq stage) ? value : NaN
middle(dummy) = 0.5 * (column(5) + column(6))
# The share of the bin's values that are not 0, in %.
solid(dummy) = column(7) > 0 ? 100 * column(8) * (column(7) - column(9)) / column(7) : 0
outside(count, values) = count > 0 ? sprintf("\noutside %.2g %%", 100.0 * count / values) : ''
do for [stage in 'before after'] {
    # One scale for all panels, that of the values which are not 0: after the activation function a bar of zeros stands in
    # each panel, pale, which is cut at the top edge with its height written beside it.
    stats 'histograms.csv' using (column(1) == 0 && strcol(4) eq stage ? solid(0) : NaN) name 'SHARE' nooutput
    top = 1.3 * SHARE_max
    set yrange [0:top]
    do for [kind in 'svg png'] {
        if (kind eq 'svg') {
            set terminal svg size 1280,640 dynamic font 'DejaVu Sans,13' background rgb 'white' name 'histograms_'.stage
        } else {
            set terminal pngcairo size 1600,800 font 'DejaVu Sans,12' background rgb 'white'
        }
        set output 'histograms-'.stage.'.'.kind.suffix
        set multiplot layout 2,4 margins 0.06,0.99,0.085,0.87 spacing 0.025,0.12 \
            title 'First layer, '.stage.' the activation function — '.subject font ',17'
        do for [norm = 0:1] {
            do for [epoch = 1:4] {
                set title (norm ? 'With' : 'Without').sprintf(' batch norm, start of epoch %d', epoch) offset 0,-0.4
                set ylabel (epoch == 1 ? 'share of values, %' : '') offset 0.3,0
                set xlabel (norm ? 'value' : '') offset 0,0.5
                set format y (epoch == 1 ? '%g' : '')
                plot 'histograms.csv' using (here(norm, epoch, stage, middle(0))):(100 * $8):($6 - $5) \
                         with boxes lc rgb pale(norm) notitle, \
                     '' using (here(norm, epoch, stage, middle(0))):(solid(0)):($6 - $5) \
                         with boxes lc rgb colour(norm) notitle, \
                     'activations.csv' using (here(norm, epoch, stage, -5.45)):(100.0 * $6 / $5):(0.6) \
                         with boxes lc rgb '#555555' notitle, \
                     '' using (here(norm, epoch, stage, 5.45)):(100.0 * $7 / $5):(0.6) \
                         with boxes lc rgb '#555555' notitle, \
                     '' using (here(norm, epoch, stage, -4.8)):(0.94 * top): \
                         (sprintf("mean %.2f\ndeviation %.2f", abs($10) < 0.005 ? 0 : $10, $11).outside($6 + $7, $5)) \
                         with labels left font ',12' notitle, \
                     '' using (here(norm, epoch, stage, $9 > 0 ? 0.5 : NaN)):(0.94 * top): \
                         (sprintf('%.1f %% are 0', 100.0 * $9 / $5)) with labels left font ',12' notitle
            }
        }
        unset multiplot
        unset output
    }
}

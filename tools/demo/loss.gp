# The loss of both networks over the steps. Reads losses.csv of this folder: every seed thin, their mean (the rows of seed "mean") thick.
reset
if (!exists("suffix")) suffix = ''
set datafile separator ','
set tics out nomirror scale 0.6
set border 3 lc rgb '#555555'
set grid ytics lc rgb '#dddddd' lt 1 lw 0.5
set xrange [0:200]
set yrange [0:*]
set xtics 0,50,200
set xlabel 'step of gradient descent (an epoch is 50)'
set ylabel 'loss (cross-entropy of the training samples)'
set key bottom left Left reverse samplen 3
do for [i = 1:3] { set arrow i from 50 * i, graph 0 to 50 * i, graph 1 nohead lc rgb '#bbbbbb' dt 2 lw 0.8 back }
colour(norm) = norm ? 0x1f6fb4 : 0xd9620f
thin(norm) = norm ? 0x9cc4e4 : 0xf4bf99
row(who, norm, step) = strcol(1) eq who && column(2) == norm ? step : NaN
do for [kind in 'svg png'] {
    if (kind eq 'svg') {
        set terminal svg size 1000,480 dynamic font 'DejaVu Sans,13' background rgb 'white' name 'loss'
    } else {
        set terminal pngcairo size 1250,600 font 'DejaVu Sans,12' background rgb 'white'
    }
    set output 'loss.'.kind.suffix
    set title 'Training loss, full batch, SGD with rate 0.01 — '.subject.(seeds > 1 ? sprintf(' (%d seeds and their mean)', seeds) : '') \
        font ',15'
    plot for [norm = 0:1] for [seed = 0:seeds-1] 'losses.csv' using (row(''.seed, norm, $3)):4 \
             with lines lw 1 lc rgb thin(norm) notitle, \
         for [norm = 0:1] 'losses.csv' using (row('mean', norm, $3)):4 with lines lw 2.5 lc rgb colour(norm) \
             title (norm ? 'with batch norm' : 'without batch norm'), \
         log(10) with lines dt 3 lw 1.5 lc rgb '#333333' title 'ln 10: every class equally likely'
    unset output
}
